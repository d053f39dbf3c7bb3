//! The options of TLS as typed.

use clap::Args;

#[derive(Args, Debug)]
#[command(next_help_heading = "TLS")]
pub(in crate::config) struct TlsOptions {
    /// Certificate and its chain, PEM; read again when it changes; repeatable: the client's name
    /// chooses, and the first one serves all others [default: none]
    #[arg(long, value_name = "PATH")]
    pub(in crate::config) tls_cert: Vec<String>,
    /// The private key of each certificate, in the same order, PEM [default: none]
    #[arg(long, value_name = "PATH")]
    pub(in crate::config) tls_key: Vec<String>,
}
