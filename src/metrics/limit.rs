//! The limits of addresses and clients that are counted when they are passed.

/// The subject of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Clients of an address.
    Clients,
    /// Handshakes of an address.
    Handshakes,
    /// Handshakes of TLS that an address begins.
    TlsHandshakes,
    /// Bad credentials of an address, shown otherwise than in a handshake.
    Credentials,
    /// Messages of a client.
    Commands,
}

impl Limit {
    /// All, in the order of the variants: `ALL[limit as usize] == limit`.
    pub const ALL: [Self; 5] =
        [Self::Clients, Self::Handshakes, Self::TlsHandshakes, Self::Credentials, Self::Commands];

    /// The value of the label `limit`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Clients => "clients",
            Self::Handshakes => "handshakes",
            Self::TlsHandshakes => "tls_handshakes",
            Self::Credentials => "credentials",
            Self::Commands => "commands",
        }
    }

    /// The value of the label `reason`: the word of the answer, or of the Close, where one is
    /// refused.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Clients => "address_full",
            Self::Handshakes | Self::TlsHandshakes | Self::Credentials | Self::Commands => {
                "rate_limited"
            }
        }
    }
}
