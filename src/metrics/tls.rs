//! How handshakes of TLS end. Shards count them.

words! {
    /// The end of a handshake.
    TlsHandshake {
        /// With a certificate.
        Full = "full",
        /// By a ticket of an earlier one.
        Resumed = "resumed",
        /// One side broke the protocol, or refused the other.
        Failed = "failed",
        /// The connection was closed before.
        Unfinished = "unfinished",
        /// A request came instead.
        PlainHttp = "plain_http",
        /// Its address has begun too many.
        Limited = "limited",
    }
}
