//! Cipher suites whose keys take little memory while nothing is sent or received.
//!
//! The library's own keep each key expanded, which is 560 bytes for either direction of a
//! connection, although most clients wait most of the time. Here a connection of TLS 1.3 keeps the
//! key as it was negotiated, and expands it for each record: a tenth of a microsecond. The form
//! of a record, the choice of a suite and all of TLS 1.2 are the library's.

use std::sync::{Arc, LazyLock};

use ring::aead::{self, LessSafeKey, UnboundKey};
use rustls::{
    CipherSuite, CipherSuiteCommon, ConnectionTrafficSecrets, ContentType, Error, ProtocolVersion,
    SupportedCipherSuite, Tls13CipherSuite,
    crypto::{
        CryptoProvider,
        cipher::{
            AeadKey, InboundOpaqueMessage, InboundPlainMessage, Iv, MessageDecrypter,
            MessageEncrypter, Nonce, OutboundOpaqueMessage, OutboundPlainMessage, PrefixedPayload,
            Tls13AeadAlgorithm, UnsupportedOperationError, make_tls13_aad,
        },
        ring as rustls_ring,
    },
};

/// The library's provider, with these suites in place of its own of TLS 1.3.
pub(super) fn provider() -> Arc<CryptoProvider> {
    static SUITES: LazyLock<Vec<SupportedCipherSuite>> =
        LazyLock::new(|| rustls_ring::ALL_CIPHER_SUITES.iter().copied().map(compact).collect());
    Arc::new(CryptoProvider { cipher_suites: SUITES.clone(), ..rustls_ring::default_provider() })
}

/// The suite with keys that take little. Made once in a process: its memory is never given back.
fn compact(suite: SupportedCipherSuite) -> SupportedCipherSuite {
    let SupportedCipherSuite::Tls13(own) = suite else { return suite };
    let algorithm = match own.common.suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => &aead::AES_128_GCM,
        CipherSuite::TLS13_AES_256_GCM_SHA384 => &aead::AES_256_GCM,
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => &aead::CHACHA20_POLY1305,
        _ => return suite,
    };
    let common = CipherSuiteCommon { ..own.common };
    let aead_alg = Box::leak(Box::new(Compact { algorithm, own: own.aead_alg }));
    let hkdf_provider = own.hkdf_provider;
    let compact = Tls13CipherSuite { common, hkdf_provider, aead_alg, quic: None };
    SupportedCipherSuite::Tls13(Box::leak(Box::new(compact)))
}

/// An AEAD of RFC 8446 §5.2, and the library's way to it.
struct Compact {
    algorithm: &'static aead::Algorithm,
    own: &'static dyn Tls13AeadAlgorithm,
}

impl Tls13AeadAlgorithm for Compact {
    fn encrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageEncrypter> {
        Box::new(CompactKey { algorithm: self.algorithm, key, iv })
    }

    fn decrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageDecrypter> {
        Box::new(CompactKey { algorithm: self.algorithm, key, iv })
    }

    fn key_len(&self) -> usize {
        self.own.key_len()
    }

    fn extract_keys(
        &self,
        key: AeadKey,
        iv: Iv,
    ) -> Result<ConnectionTrafficSecrets, UnsupportedOperationError> {
        self.own.extract_keys(key, iv)
    }
}

/// The key of one direction.
struct CompactKey {
    algorithm: &'static aead::Algorithm,
    /// Overwritten when it is dropped.
    key: AeadKey,
    iv: Iv,
}

/// Idle clients have two.
const _: () = assert!(size_of::<CompactKey>() <= 64);

impl CompactKey {
    fn expanded(&self) -> Result<LessSafeKey, ring::error::Unspecified> {
        UnboundKey::new(self.algorithm, self.key.as_ref()).map(LessSafeKey::new)
    }

    /// RFC 8446 §5.3: each record's own, by its number, which the library never gives twice.
    fn nonce(&self, sequence: u64) -> aead::Nonce {
        aead::Nonce::assume_unique_for_key(Nonce::new(&self.iv, sequence).0)
    }
}

impl MessageDecrypter for CompactKey {
    fn decrypt<'a>(
        &mut self,
        mut message: InboundOpaqueMessage<'a>,
        sequence: u64,
    ) -> Result<InboundPlainMessage<'a>, Error> {
        let payload = &mut message.payload;
        let additional = aead::Aad::from(make_tls13_aad(payload.len()));
        let opened = self
            .expanded()
            .and_then(|key| Ok(key.open_in_place(self.nonce(sequence), additional, payload)?.len()))
            .map_err(|_| Error::DecryptError)?;
        payload.truncate(opened);
        message.into_tls13_unpadded_message()
    }
}

impl MessageEncrypter for CompactKey {
    fn encrypt(
        &mut self,
        message: OutboundPlainMessage<'_>,
        sequence: u64,
    ) -> Result<OutboundOpaqueMessage, Error> {
        let length = self.encrypted_payload_len(message.payload.len());
        let additional = aead::Aad::from(make_tls13_aad(length));
        let mut payload = PrefixedPayload::with_capacity(length);
        payload.extend_from_chunks(&message.payload);
        payload.extend_from_slice(&message.typ.to_array());
        self.expanded()
            .and_then(|key| {
                key.seal_in_place_append_tag(self.nonce(sequence), additional, &mut payload)
            })
            .map_err(|_| Error::EncryptError)?;
        // From outside every record of 1.3 looks like this (RFC 8446 §5.2).
        let (content, version) = (ContentType::ApplicationData, ProtocolVersion::TLSv1_2);
        Ok(OutboundOpaqueMessage::new(content, version, payload))
    }

    /// With the content's type, and the tag.
    fn encrypted_payload_len(&self, payload_len: usize) -> usize {
        payload_len + 1 + self.algorithm.tag_len()
    }
}
