//! A way through TLS to a server, for tests that speak plainly: whatever connects to the tunnel
//! comes out of the server's TLS listener.
//!
//! The tunnel trusts one authority, or one certificate. It looks at how the server ends: without a
//! farewell (close_notify) an end is a truncation, and counted.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use rustls::{
    ClientConfig, RootCertStore, SupportedProtocolVersion,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, split},
    net::{TcpListener, TcpSocket, TcpStream},
    runtime::Builder,
    sync::oneshot,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// How its connections went.
#[derive(Debug, Default)]
struct Counts {
    refused: AtomicUsize,
    farewells: AtomicUsize,
    truncations: AtomicUsize,
}

/// A tunnel to one address; it ends when dropped.
#[derive(Debug)]
pub(crate) struct Tunnel {
    addr: SocketAddr,
    counts: Arc<Counts>,
    _end: oneshot::Sender<()>,
}

/// A client that trusts the certificates of the file at `path`.
pub(crate) fn trusting(path: &str, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).unwrap() {
        roots.add(certificate.unwrap()).unwrap();
    }
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

impl Tunnel {
    /// A tunnel to `server`, which is to be `name`.
    pub(crate) fn to(server: SocketAddr, name: &str, config: ClientConfig) -> Self {
        Self::from([127, 0, 0, 1], server, name, config)
    }

    /// The same from another of loopback's addresses.
    pub(crate) fn from(
        source: [u8; 4],
        server: SocketAddr,
        name: &str,
        config: ClientConfig,
    ) -> Self {
        let connector = TlsConnector::from(Arc::new(config));
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let addr = listener.local_addr().unwrap();
        let counts = Arc::<Counts>::default();
        let (end, ended) = oneshot::channel();
        let counted = counts.clone();
        thread::spawn(move || {
            let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
            let runtime = runtime.unwrap();
            let accepting = async {
                let listener = TcpListener::from_std(listener).unwrap();
                loop {
                    let (inner, _) = listener.accept().await.unwrap();
                    let (connector, name) = (connector.clone(), name.clone());
                    let counts = counted.clone();
                    runtime.spawn(async move {
                        let outer = TcpSocket::new_v4().unwrap();
                        outer.bind((source, 0).into()).unwrap();
                        let outer = outer.connect(server).await.unwrap();
                        outer.set_nodelay(true).unwrap();
                        match connector.connect(name, outer).await {
                            Ok(outer) => carry(inner, outer, &counts).await,
                            Err(_) => drop(counts.refused.fetch_add(1, Ordering::SeqCst)),
                        }
                    });
                }
            };
            runtime.block_on(async {
                tokio::select! {
                    () = accepting => {}
                    _ = ended => {}
                }
            });
            runtime.shutdown_background();
        });
        Self { addr, counts, _end: end }
    }

    /// The address to connect to.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Handshakes that failed.
    pub(crate) fn refused(&self) -> usize {
        self.counts.refused.load(Ordering::SeqCst)
    }

    /// Connections that the server has ended as TLS wants it.
    pub(crate) fn farewells(&self) -> usize {
        self.counts.farewells.load(Ordering::SeqCst)
    }

    /// Connections that the server has just dropped.
    pub(crate) fn truncations(&self) -> usize {
        self.counts.truncations.load(Ordering::SeqCst)
    }
}

/// Carries bytes both ways until both sides have ended.
async fn carry(mut inner: TcpStream, outer: TlsStream<TcpStream>, counts: &Counts) {
    inner.set_nodelay(true).unwrap();
    let (mut from_outer, mut to_outer) = split(outer);
    let (mut from_inner, mut to_inner) = inner.split();
    let up = async {
        let _ = tokio::io::copy(&mut from_inner, &mut to_outer).await;
        let _ = to_outer.shutdown().await;
    };
    let down = async {
        let mut buffer = vec![0; 16 * 1024];
        let end = loop {
            match from_outer.read(&mut buffer).await {
                Ok(0) => break Ok(()),
                Ok(count) => {
                    if let Err(error) = to_inner.write_all(&buffer[..count]).await {
                        break Err(error);
                    }
                }
                Err(error) => break Err(error),
            }
        };
        match end {
            Ok(()) => counts.farewells.fetch_add(1, Ordering::SeqCst),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                counts.truncations.fetch_add(1, Ordering::SeqCst)
            }
            Err(_) => 0,
        };
        let _ = to_inner.shutdown().await;
    };
    tokio::join!(up, down);
}
