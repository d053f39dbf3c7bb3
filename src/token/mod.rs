//! Tokens: signed statements (JWT, RFC 7519) of who a client or publisher is and what it may do.
//!
//! [`Verifier`] turns a token into [`Rights`] or a [`TokenError`]. It knows nothing of HTTP: where
//! a token was shown, and how a refusal is told, is for others. Nothing here ever writes a token or
//! a key into a log or an error.
//!
//! | file | what it is |
//! |---|---|
//! | `verifier` | from token to rights: keys, signature, claims |
//! | `keys` | secrets and keys, and the algorithms that each may be used for |
//! | `issuer` | the key set at a URL, fetched by a thread of its own |
//! | `store`, `cache`, `flights` | keys and outcomes, changed together; verifications under way |
//! | `header`, `claims` | the two parts of a token: pure |
//! | `members` | a JSON object whose members stand once |
//! | `rights`, `error` | the two outcomes |
//! | `commands` | `wsbcast token check` and `create` |
//! | `waiting_room` | how many requests wait for the issuer |
//! | `crypto` | signatures, by ring |

mod cache;
mod claims;
mod commands;
mod crypto;
mod error;
mod flights;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod header;
mod issuer;
mod keys;
mod members;
mod rights;
mod store;
mod verifier;
mod waiting_room;

pub use claims::ClaimRules;
pub use commands::{CheckToken, CreateToken, Report, ShownToken};
pub use error::{Quoted, TokenError};
pub use issuer::{InvalidJwksUrl, JwksUrl};
pub use keys::{
    InvalidJwks, InvalidPem, InvalidPublicKey, InvalidSecret, PublicKey, Secret, public_keys,
};
pub use rights::Rights;
pub use verifier::{JwkSet, KeySetSource, TokenSettings, Verifier};
pub use waiting_room::WaitingRoom;

#[cfg(test)]
mod tests;
