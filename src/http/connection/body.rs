//! Reads a request's body within a size, a time, and what all connections together may hold.
//!
//! A body that announces more than it may have is refused before a byte of it is asked for, so a
//! client that waits for `100 Continue` never sends it. One piece is passed on as it came. Many
//! slow publishers share one budget: memory is bounded whatever their number.

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Body;
use tokio::time::timeout;

use crate::{http::connection::places::Charge, limits};

/// Why there is no body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) enum BodyError {
    /// Longer than allowed, announced or seen.
    TooBig,
    /// Not complete in time.
    TooSlow,
    /// The connection broke, or the chunks are malformed.
    Broken,
    /// All bodies together take too much memory.
    NoRoom,
}

/// The whole body, `bytes_max` at most; its bytes stay on the charge.
pub(in crate::http) async fn collect<B>(
    body: B,
    bytes_max: usize,
    charge: &mut Charge,
) -> Result<Bytes, BodyError>
where
    B: Body<Data = Bytes> + Unpin,
{
    let announced = body.size_hint().lower();
    if announced > bytes_max as u64 {
        return Err(BodyError::TooBig);
    }
    timeout(limits::HTTP_BODY_DEADLINE, read(body, bytes_max, charge))
        .await
        .unwrap_or(Err(BodyError::TooSlow))
}

async fn read<B>(mut body: B, bytes_max: usize, charge: &mut Charge) -> Result<Bytes, BodyError>
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut first = Bytes::new();
    let mut whole = BytesMut::new();
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return Err(BodyError::Broken) };
        // Trailers say nothing here.
        let Ok(data) = frame.into_data() else { continue };
        length += data.len();
        if length > bytes_max {
            return Err(BodyError::TooBig);
        }
        if !charge.grow_to(length.saturating_sub(limits::HTTP_BODY_FREE_BYTES)) {
            return Err(BodyError::NoRoom);
        }
        if first.is_empty() {
            first = data;
            continue;
        }
        if whole.is_empty() {
            whole.extend_from_slice(&first);
        }
        whole.extend_from_slice(&data);
    }
    Ok(if !whole.is_empty() {
        whole.freeze()
    } else if first.len() <= limits::BODY_COPY_BYTES_MAX {
        Bytes::copy_from_slice(&first)
    } else {
        first
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http_body_util::Full;

    use super::*;
    use crate::{
        clock::Clock,
        http::connection::places::{Places, Room},
    };

    async fn collected(data: Bytes, bytes_max: usize) -> Result<Bytes, BodyError> {
        let place = Places::new(Clock::start(), Room::of(2), 1, Arc::default()).enter();
        collect(Full::new(data), bytes_max, &mut place.standing().charge()).await
    }

    #[tokio::test]
    async fn one_large_piece_is_passed_on_as_it_came() {
        let data = Bytes::from(vec![b'x'; 4096]);
        let whole = collected(data.clone(), 4096).await.unwrap();
        assert_eq!((whole.as_ptr(), whole.len()), (data.as_ptr(), data.len()));
        assert_eq!(collected(data, 4095).await, Err(BodyError::TooBig));
    }

    /// A small piece does not keep the buffer that it came in.
    #[tokio::test]
    async fn a_small_piece_does_not_keep_its_buffer() {
        let buffer = Bytes::from(vec![b'x'; 65_536]);
        let small = collected(buffer.slice(..16), 4096).await.unwrap();
        assert_eq!(small, buffer.slice(..16));
        assert_ne!(small.as_ptr(), buffer.as_ptr());
    }
}
