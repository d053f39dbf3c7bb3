//! Messages in the encodings that clients have agreed to, compressed once for all of them.
//!
//! The compressors belong to the shard, one for each window size that a client here uses: created
//! with its first message, dropped with its last client. No part of them belongs to a client. Short
//! messages, and messages that would not shrink, are sent as they are. Recipients are not decided
//! here.

use std::sync::Arc;

use crate::{
    broker::Publication,
    conn::write::{encodings, laid_out},
    hub::{Encode, Encoding, LaidOut},
    metrics::{EncodingWord, ShardMetrics},
    ws::{
        Kind,
        deflate::Compressor,
        extension::WindowBits,
        frame::{self, DataHeader},
    },
};

/// Writes messages in any encoding.
#[derive(Debug)]
pub(in crate::conn) struct Encoder {
    windows: [Window; WindowBits::COUNT],
    /// Shorter messages are not compressed.
    threshold_bytes: usize,
    compressed: Vec<u8>,
    /// Room to write a message with its position in.
    text: Vec<u8>,
    metrics: Arc<ShardMetrics>,
}

/// The compressor and its state for one window size.
#[derive(Debug, Default)]
struct Window {
    clients: usize,
    compressor: Option<Compressor>,
}

impl Encoder {
    pub(in crate::conn) fn new(threshold_bytes: usize, metrics: Arc<ShardMetrics>) -> Self {
        Self {
            windows: Default::default(),
            threshold_bytes,
            compressed: Vec::new(),
            text: Vec::new(),
            metrics,
        }
    }

    /// A client that uses `encoding` has come.
    pub(in crate::conn) fn join(&mut self, encoding: Encoding) {
        let gauge = &self.metrics.clients_by_encoding[word(encoding) as usize];
        gauge.set(gauge.get() + 1);
        if let Some(window) = encoding.window() {
            self.windows[window.index()].clients += 1;
        }
    }

    /// A client that used `encoding` has left.
    pub(in crate::conn) fn leave(&mut self, encoding: Encoding) {
        let gauge = &self.metrics.clients_by_encoding[word(encoding) as usize];
        gauge.set(gauge.get().saturating_sub(1));
        if let Some(window) = encoding.window() {
            let window = &mut self.windows[window.index()];
            window.clients -= 1;
            if window.clients == 0 {
                window.compressor = None;
            }
        }
    }

    /// A message for the logs; its encodings are counted.
    pub(in crate::conn) fn publication<'a>(&'a mut self, message: &'a Publication) -> Written<'a> {
        Written { encoder: self, message, header: None }
    }

    /// A message in the encoding of a log: two parts that follow each other.
    pub(in crate::conn) fn message<'a>(
        &'a mut self,
        encoding: Encoding,
        message: &'a Publication,
    ) -> (Option<DataHeader>, &'a [u8]) {
        match encoding {
            Encoding::Plain | Encoding::Deflate(_) => {
                let (header, payload) = self.frame(encoding, message.kind, &message.data);
                (Some(header), payload)
            }
            Encoding::V1 | Encoding::V1Deflate(_) => {
                let mut text = std::mem::take(&mut self.text);
                encodings::v1_message(message, &mut text);
                let (header, is_compressed) = self.compress(encoding, Kind::Text, &text);
                self.text = text;
                let payload = if is_compressed { &self.compressed } else { &self.text };
                (Some(header), payload)
            }
            Encoding::Sse => {
                encodings::sse_event(message, &mut self.text);
                (None, &self.text)
            }
        }
    }

    /// A message as one frame of `encoding`: its header, and what follows it.
    pub(in crate::conn) fn frame<'a>(
        &'a mut self,
        encoding: Encoding,
        kind: Kind,
        payload: &'a [u8],
    ) -> (DataHeader, &'a [u8]) {
        let (header, is_compressed) = self.compress(encoding, kind, payload);
        (header, if is_compressed { &self.compressed } else { payload })
    }

    /// The header of a message, and whether what follows it is in `compressed`.
    fn compress(&mut self, encoding: Encoding, kind: Kind, payload: &[u8]) -> (DataHeader, bool) {
        if let Some(window) = encoding.window()
            && payload.len() >= self.threshold_bytes
        {
            let compressor = &mut self.windows[window.index()].compressor;
            let compressor = compressor.get_or_insert_with(|| Compressor::new(window));
            if compressor.message(payload, &mut self.compressed) {
                let header = frame::data_header(kind, self.compressed.len());
                return (header.compressed(), true);
            }
        }
        (frame::data_header(kind, payload.len()), false)
    }
}

/// A message on its way into the logs.
pub(in crate::conn) struct Written<'a> {
    encoder: &'a mut Encoder,
    message: &'a Publication,
    header: Option<DataHeader>,
}

impl Written<'_> {
    fn count(&self, encoding: Encoding) {
        self.encoder.metrics.frames_encoded.add(word(encoding) as usize, 1);
    }
}

/// The word for it in metrics.
fn word(encoding: Encoding) -> EncodingWord {
    match encoding {
        Encoding::Plain => EncodingWord::Plain,
        Encoding::Deflate(_) => EncodingWord::Deflate,
        Encoding::V1 => EncodingWord::V1,
        Encoding::V1Deflate(_) => EncodingWord::V1Deflate,
        Encoding::Sse => EncodingWord::Sse,
    }
}

impl Encode for Written<'_> {
    fn encode(&mut self, encoding: Encoding) -> [&[u8]; 2] {
        self.count(encoding);
        let (header, payload) = self.encoder.message(encoding, self.message);
        self.header = header;
        [self.header.as_ref().map_or(&[], AsRef::as_ref), payload]
    }

    fn payload_bytes(&self) -> usize {
        self.message.data.len()
    }

    fn lay_out(&mut self, encoding: Encoding) -> Option<LaidOut> {
        self.count(encoding);
        Some(laid_out::lay_out(self.message, encoding))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMPRESSED: u8 = 0x40;

    fn encoder() -> Encoder {
        Encoder::new(100, Arc::default())
    }

    fn deflate(bits: u8) -> Encoding {
        Encoding::Deflate(WindowBits::new(bits).unwrap())
    }

    fn is_compressed(encoder: &mut Encoder, encoding: Encoding, payload: &[u8]) -> bool {
        let (header, data) = encoder.frame(encoding, Kind::Text, payload);
        let compressed = header.as_ref()[0] & COMPRESSED != 0;
        assert_eq!(compressed, data != payload);
        compressed
    }

    /// Only messages that are long enough and shrink are compressed.
    #[test]
    fn only_messages_that_shrink_are_compressed() {
        let mut encoder = encoder();
        assert!(is_compressed(&mut encoder, deflate(15), &[b'x'; 100]));
        assert!(!is_compressed(&mut encoder, deflate(15), &[b'x'; 99]));
        assert!(!is_compressed(&mut encoder, Encoding::Plain, &[b'x'; 100]));
        let mut random = fastrand::Rng::with_seed(0);
        let noise: Vec<u8> = (0..1000).map(|_| random.u8(..)).collect();
        assert!(!is_compressed(&mut encoder, deflate(15), &noise));
    }

    /// A compressor is made with the first message and goes with the last client.
    #[test]
    fn a_compressor_lives_as_long_as_its_clients() {
        let mut encoder = encoder();
        let there = |encoder: &Encoder| encoder.windows.each_ref().map(|w| w.compressor.is_some());
        for _ in 0..2 {
            encoder.join(deflate(9));
        }
        encoder.join(Encoding::Plain);
        encoder.frame(deflate(9), Kind::Text, b"short");
        assert_eq!(there(&encoder), [false; WindowBits::COUNT]);
        encoder.frame(deflate(9), Kind::Text, &[b'x'; 100]);
        encoder.leave(deflate(9));
        assert!(there(&encoder)[0]);
        encoder.leave(deflate(9));
        encoder.leave(Encoding::Plain);
        assert_eq!(there(&encoder), [false; WindowBits::COUNT]);
    }

    #[test]
    fn each_encoding_of_a_publication_is_counted_once() {
        let mut encoder = encoder();
        let message = Publication {
            channel: crate::channel::ChannelName::default_channel(),
            kind: Kind::Binary,
            data: vec![7; 200].into(),
            position: None,
        };
        let mut publication = encoder.publication(&message);
        assert_eq!(publication.encode(Encoding::Plain)[0], [0x82, 126, 0, 200]);
        assert_eq!(publication.encode(deflate(10))[0][0], 0xC2);
        assert_eq!(publication.encode(deflate(15))[0][0], 0xC2);
        let counted = |word| encoder.metrics.frames_encoded.get(word as usize);
        assert_eq!((counted(EncodingWord::Plain), counted(EncodingWord::Deflate)), (1, 2));
    }

    /// Clients are counted by their encoding as long as they are here.
    #[test]
    fn clients_are_counted_by_encoding() {
        let mut encoder = encoder();
        let clients = [deflate(9), deflate(15), Encoding::V1, Encoding::Sse, Encoding::Plain];
        clients.into_iter().for_each(|encoding| encoder.join(encoding));
        let counts = |encoder: &Encoder| {
            encoder.metrics.clients_by_encoding.each_ref().map(|gauge| gauge.get())
        };
        assert_eq!(counts(&encoder), [1, 2, 1, 0, 1]);
        clients.into_iter().skip(1).for_each(|encoding| encoder.leave(encoding));
        assert_eq!(counts(&encoder), [0, 1, 0, 0, 0]);
    }
}
