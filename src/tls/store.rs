//! The certificates that are in use, where they come from, and their exchange.
//!
//! Handshakes take what is there at that moment; pairs are exchanged each by itself, and only for
//! one that was checked. Files are compared by content, read through symbolic links: whatever way
//! they are written or swapped, a pair counts once both of its files fit; until then the old one
//! stays. Reading is the caller's to order, on a thread that may wait for a disk.

use std::{
    fmt,
    fs::{self, File as Disk},
    io::{self, Read as _},
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use rustls::{
    ServerConfig,
    crypto::ring,
    server::{ClientHello, NoServerSessionStorage, ResolvesServerCert},
    sign::CertifiedKey,
};

use super::{
    certificates::{BadPair, CertificateSet, File, Pair},
    suites,
};
use crate::limits::TLS_FILE_BYTES_MAX;

/// The files of a certificate's chain and of its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PairFiles {
    /// PEM, the certificate first.
    pub certificate: String,
    /// PEM.
    pub key: String,
}

/// The outcome of a look at the files, at each pair by itself.
#[derive(Debug)]
pub struct Look {
    /// The good ones.
    pub reloaded: Reloaded,
    /// Why the others can't be used as they are now: for these the old ones stay.
    pub refused: Vec<BadPair>,
}

/// The pairs that are to be used after a look at the files.
#[derive(Debug)]
pub enum Reloaded {
    /// The pairs in use.
    Unchanged,
    /// Some good ones are new: to be taken into use by [`CertificateStore::commit`].
    Prepared(Prepared),
}

/// A checked set that is not in use yet.
pub struct Prepared {
    set: CertificateSet,
    contents: Vec<Content>,
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.set.fmt(f)
    }
}

/// The content of a pair's files.
type Content = (Vec<u8>, Vec<u8>);

/// The certificates of a server.
pub struct CertificateStore {
    files: Vec<PairFiles>,
    in_use: RwLock<Arc<CertificateSet>>,
    /// The content of the files that each pair was made of.
    contents: Mutex<Vec<Content>>,
}

impl fmt::Debug for CertificateStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificateStore").field("files", &self.files).finish_non_exhaustive()
    }
}

impl CertificateStore {
    /// Reads and checks `files`, at least one pair.
    ///
    /// # Errors
    /// When one of them can't be used.
    pub fn open(files: Vec<PairFiles>) -> Result<Self, BadPair> {
        let pairs = files.iter().map(|files| {
            let content = read(files)?;
            Ok((check(files, &content)?, content))
        });
        let (pairs, contents) = pairs.collect::<Result<Vec<_>, _>>()?.into_iter().unzip();
        let set = Arc::new(CertificateSet::new(pairs));
        Ok(Self { files, in_use: RwLock::new(set), contents: Mutex::new(contents) })
    }

    /// The set in use.
    #[must_use]
    pub fn in_use(&self) -> Arc<CertificateSet> {
        // A panic elsewhere leaves one set or the other.
        self.in_use.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks at the files; waits for the disk.
    pub fn prepare(&self) -> Look {
        let mut contents = self.contents.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut pairs = self.in_use().pairs().to_vec();
        let (mut is_new, mut refused) = (false, Vec::new());
        for ((files, content), pair) in self.files.iter().zip(&mut contents).zip(&mut pairs) {
            match read(files).and_then(|found| anew(files, content, found)) {
                Ok(None) => {}
                Ok(Some(new)) => {
                    (*pair, *content) = new;
                    is_new = true;
                }
                Err(bad) => refused.push(bad),
            }
        }
        let prepared =
            || Reloaded::Prepared(Prepared { set: CertificateSet::new(pairs), contents });
        Look { reloaded: if is_new { prepared() } else { Reloaded::Unchanged }, refused }
    }

    /// Takes a set into use: the next handshakes get its certificates.
    pub fn commit(&self, prepared: Prepared) {
        let Prepared { set, contents } = prepared;
        *self.contents.lock().unwrap_or_else(PoisonError::into_inner) = contents;
        *self.in_use.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(set);
    }

    /// The library's settings for sessions with these certificates: TLS 1.2 and 1.3, HTTP/1.1,
    /// tickets whose keys change every six hours and are nobody else's.
    ///
    /// # Panics
    /// When the system has no random numbers.
    #[must_use]
    pub fn server_config(self: &Arc<Self>) -> Arc<ServerConfig> {
        let mut config = ServerConfig::builder_with_provider(suites::provider())
            .with_safe_default_protocol_versions()
            .expect("the provider has suites for all versions")
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Resolver(self.clone())));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.ticketer = ring::Ticketer::new().expect("the system has random numbers");
        // Tickets are all there is to come back by: nothing is kept here for clients that left.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Arc::new(config)
    }
}

/// The library's question which certificate a client gets.
#[derive(Debug)]
struct Resolver(Arc<CertificateStore>);

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.in_use().choose(hello.server_name())
    }
}

fn read(files: &PairFiles) -> Result<Content, BadPair> {
    Ok((content(&files.certificate)?, content(&files.key)?))
}

pub(super) fn content(path: &str) -> Result<Vec<u8>, BadPair> {
    let failed = |error| BadPair::File(path.to_owned(), error);
    // To open a pipe without a writer would wait for one.
    if !fs::metadata(path).map_err(failed)?.is_file() {
        return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, "this is no regular file")));
    }
    let file = Disk::open(path).map_err(failed)?;
    let mut content = Vec::new();
    // Bounded: it may be any file.
    file.take(TLS_FILE_BYTES_MAX + 1).read_to_end(&mut content).map_err(failed)?;
    if content.len() as u64 > TLS_FILE_BYTES_MAX {
        return Err(BadPair::Long(path.to_owned()));
    }
    Ok(content)
}

/// The pair that was `found`, if it is not the `known` one.
fn anew(
    files: &PairFiles,
    known: &Content,
    found: Content,
) -> Result<Option<(Arc<Pair>, Content)>, BadPair> {
    if found == *known {
        return Ok(None);
    }
    Ok(Some((check(files, &found)?, found)))
}

fn check(files: &PairFiles, (chain, key): &Content) -> Result<Arc<Pair>, BadPair> {
    let chain = File { name: &files.certificate, content: chain };
    Pair::new(&chain, &File { name: &files.key, content: key }).map(Arc::new)
}
