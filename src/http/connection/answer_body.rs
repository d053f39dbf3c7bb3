//! The body of every answer: it notices when hyper has taken it.

use std::{
    convert::Infallible,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use crate::http::connection::state::ConnectionState;

/// The bytes of an answer; dropped by hyper once it has taken them, or needs none.
pub(in crate::http) struct AnswerBody {
    data: Option<Bytes>,
    state: Rc<ConnectionState>,
}

impl AnswerBody {
    pub(in crate::http) fn new(data: Bytes, state: Rc<ConnectionState>) -> Self {
        Self { data: Some(data).filter(|data| !data.is_empty()), state }
    }
}

impl Drop for AnswerBody {
    fn drop(&mut self) {
        self.state.answer_is_encoded();
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.data.take().map(|data| Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.data.as_ref().map_or(0, |data| data.len() as u64))
    }
}
