//! Tokens of every kind, good and bad in turn, through the verifier.

mod fake_issuer;
mod issuers;
mod pace;
pub(super) mod signer;
mod verifying;
