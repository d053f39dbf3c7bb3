//! A certificate authority of the test's own, and what it certifies.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
};
use tempfile::TempDir;

use super::redis::{Program, Recipe};

/// An authority, with its certificate in a file of a folder that goes when it is dropped.
#[derive(Debug)]
pub(crate) struct Authority {
    folder: TempDir,
    certificate: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut wanted = CertificateParams::default();
        // Two of one name would be taken for each other.
        let name = format!("authority {} of a test", fastrand::u64(..));
        wanted.distinguished_name.push(DnType::CommonName, name);
        wanted.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        wanted.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let certificate = folder.path().join("authority.pem");
        write(&certificate, &wanted.self_signed(&key).unwrap());
        Self { folder, certificate, issuer: Issuer::new(wanted, key) }
    }

    /// The file that makes others trust it.
    pub(crate) fn path(&self) -> &str {
        self.certificate.to_str().unwrap()
    }

    /// A certificate for these names and its key, in files of their own: their paths.
    pub(crate) fn files(&self, names: &[&str]) -> [String; 2] {
        let paths = self.free_paths();
        self.write_pair(&paths, names);
        paths
    }

    /// Writes a new pair for these names in the place of what is there.
    pub(crate) fn write_pair(&self, [certificate_path, key_path]: &[String; 2], names: &[&str]) {
        let (certificate, key) = self.signed(CertificateParams::new(owned(names)).unwrap());
        write(Path::new(certificate_path), &certificate);
        std::fs::write(key_path, key.serialize_pem()).unwrap();
    }

    fn free_paths(&self) -> [String; 2] {
        let number = fastrand::u64(..);
        ["pem", "key"]
            .map(|kind| self.folder.path().join(format!("{number}.{kind}")).display().to_string())
    }

    /// How a Redis starts that shows a certificate for these names and addresses.
    pub(crate) fn redis(&self, names: &[&str]) -> Recipe {
        self.certified(CertificateParams::new(owned(names)).unwrap())
    }

    /// How a Redis starts that shows such a certificate, and wants one of this authority's to be
    /// shown.
    pub(crate) fn mutual_redis(&self, names: &[&str]) -> Recipe {
        self.redis(names).and(&["--tls-auth-clients", "yes"])
    }

    /// The same with a certificate that has expired.
    pub(crate) fn redis_of_the_past(&self, names: &[&str]) -> Recipe {
        let mut wanted = CertificateParams::new(owned(names)).unwrap();
        wanted.not_after = date_time_ymd(2020, 1, 1);
        self.certified(wanted)
    }

    /// A certificate for these names and its key, as one text.
    pub(crate) fn pem(&self, names: &[&str]) -> String {
        let (certificate, key) = self.signed(CertificateParams::new(owned(names)).unwrap());
        certificate.pem() + &key.serialize_pem()
    }

    fn signed(&self, mut wanted: CertificateParams) -> (Certificate, KeyPair) {
        // Nodes of a cluster are each other's clients.
        wanted.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        (wanted.signed_by(&key, &self.issuer).unwrap(), key)
    }

    fn certified(&self, wanted: CertificateParams) -> Recipe {
        let (certificate, key) = self.signed(wanted);
        let number = fastrand::u64(..);
        let [certificate_path, key_path] =
            ["pem", "key"].map(|kind| self.folder.path().join(format!("{number}.{kind}")));
        write(&certificate_path, &certificate);
        std::fs::write(&key_path, key.serialize_pem()).unwrap();
        let options = [
            "--tls-cert-file",
            certificate_path.to_str().unwrap(),
            "--tls-key-file",
            key_path.to_str().unwrap(),
            "--tls-ca-cert-file",
            self.path(),
            "--tls-auth-clients",
            "no",
        ];
        Recipe { has_tls: true, ..Recipe::new(Program::Redis, &options) }
    }
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

fn write(path: &Path, certificate: &Certificate) {
    std::fs::write(path, certificate.pem()).unwrap();
}
