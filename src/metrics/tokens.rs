//! The outcomes of the tokens that were shown.
//!
//! The verifier counts for itself, and its counts are read into `ProcessFacts`; here their words
//! are defined.

words! {
    /// The outcome of a token's verification: `tokens_verified_total{result}`.
    TokenResult {
        /// Its signature and its claims are good.
        Ok = "ok",
        /// It was shown before, and the answer known.
        Cached = "cached",
        /// It is no signed JWT of a form that is accepted.
        Malformed = "malformed",
        /// No key is for its algorithm.
        Algorithm = "algorithm",
        /// No key has its id.
        UnknownKey = "unknown_key",
        /// Its signature is that of no key.
        Signature = "signature",
        /// It was good once.
        Expired = "expired",
        /// It will be good.
        NotYetValid = "not_yet_valid",
        /// It is another issuer's.
        Issuer = "issuer",
        /// It is for somebody else.
        Audience = "audience",
        /// A claim is missing or wrong.
        Claim = "claim",
        /// It is good, and its bearer is kept out.
        KeptOut = "kept_out",
        /// There was no key to check it with.
        KeysUnavailable = "keys_unavailable",
    }
}
