//! Reads a request's body within a size, a time, and what all bodies together may take up.
//!
//! A body that announces more than it may have is refused before a byte of it is asked for, so a
//! client that waits for `100 Continue` never sends it. One piece is passed on as it came. Many
//! slow publishers share one budget: memory is bounded whatever their number.

use std::cell::Cell;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Body;
use tokio::time::timeout;

use crate::limits;

/// Why there is no body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyError {
    /// Longer than allowed, announced or seen.
    TooBig,
    /// Not complete in time.
    TooSlow,
    /// The connection broke, or the chunks are malformed.
    Broken,
    /// All bodies together take up too much.
    NoRoom,
}

/// The bytes of all bodies that one thread holds.
#[derive(Debug, Default)]
pub struct BodyBudget {
    bytes: Cell<usize>,
}

/// One request's share of the budget, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Charge<'a> {
    budget: &'a BodyBudget,
    bytes: usize,
}

impl BodyBudget {
    /// A share for one request.
    pub(super) fn open(&self) -> Charge<'_> {
        Charge { budget: self, bytes: 0 }
    }
}

impl Charge<'_> {
    /// Takes `bytes` more, if there is room or nobody else has any.
    fn add(&mut self, bytes: usize) -> Result<(), BodyError> {
        let total = self.budget.bytes.get() + bytes;
        let is_alone = self.budget.bytes.get() == self.bytes;
        if total > limits::HTTP_BODIES_BYTES_MAX && !is_alone {
            return Err(BodyError::NoRoom);
        }
        self.budget.bytes.set(total);
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Charge<'_> {
    fn drop(&mut self) {
        self.budget.bytes.set(self.budget.bytes.get() - self.bytes);
    }
}

/// The whole body, `bytes_max` at most; its bytes stay on the charge.
pub(super) async fn collect<B>(
    body: B,
    bytes_max: usize,
    charge: &mut Charge<'_>,
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

async fn read<B>(mut body: B, bytes_max: usize, charge: &mut Charge<'_>) -> Result<Bytes, BodyError>
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
        charge.add(data.len())?;
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
    use http_body_util::Full;

    use super::*;

    #[tokio::test]
    async fn one_large_piece_is_passed_on_as_it_came() {
        let budget = BodyBudget::default();
        let data = Bytes::from(vec![b'x'; 4096]);
        let whole = collect(Full::new(data.clone()), 4096, &mut budget.open()).await.unwrap();
        assert_eq!((whole.as_ptr(), whole.len()), (data.as_ptr(), data.len()));
        assert_eq!(
            collect(Full::new(data), 4095, &mut budget.open()).await,
            Err(BodyError::TooBig)
        );
    }

    #[tokio::test]
    async fn a_small_piece_does_not_keep_the_buffer_it_came_in_alive() {
        let budget = BodyBudget::default();
        let buffer = Bytes::from(vec![b'x'; 65_536]);
        let small = collect(Full::new(buffer.slice(..16)), 4096, &mut budget.open()).await.unwrap();
        assert_eq!(small, buffer.slice(..16));
        assert_ne!(small.as_ptr(), buffer.as_ptr());
    }

    #[test]
    fn bodies_share_one_budget_but_one_alone_always_fits() {
        let budget = BodyBudget::default();
        let mut alone = budget.open();
        assert_eq!(alone.add(limits::HTTP_BODIES_BYTES_MAX), Ok(()));
        assert_eq!(budget.open().add(1), Err(BodyError::NoRoom));
        assert_eq!(alone.add(1), Ok(()));
        drop(alone);
        let (mut one, mut other) = (budget.open(), budget.open());
        assert_eq!(one.add(1), Ok(()));
        assert_eq!(other.add(limits::HTTP_BODIES_BYTES_MAX), Err(BodyError::NoRoom));
        assert_eq!(other.add(limits::HTTP_BODIES_BYTES_MAX - 1), Ok(()));
        drop((one, other));
        assert_eq!(budget.bytes.get(), 0);
    }
}
