//! The body of a request: its size, its type, and whether it arrives at all.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use countersign_protocol::error::ErrorCode;
use countersign_protocol::limits::MAX_BODY_BYTES;
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use hyper::body::{Body as _, Incoming};

use crate::reply::{ApiError, Habit};

/// Maximum number of bytes of a body that are read before the sender is authenticated.
const MAX_ARRIVED_BYTES: usize = 16 * 1024;

/// What is wrong with a body before anybody reads it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum BodyProblem {
    TooLarge,
    WrongType,
    Broken,
}

impl BodyProblem {
    pub(crate) fn worded(self, habit: Habit) -> ApiError {
        let code = match (self, habit) {
            (Self::Broken, _) => ErrorCode::RequestBodyInvalid,
            (_, Habit::BadRequest) => ErrorCode::BadRequest,
            (Self::TooLarge, Habit::Parameters) => ErrorCode::RequestBodyTooLarge,
            (Self::WrongType, Habit::Parameters) => ErrorCode::UnsupportedContentType,
        };
        match self {
            Self::TooLarge => ApiError::saying(
                code,
                format!("The request body must not exceed {MAX_BODY_BYTES} bytes"),
            ),
            Self::WrongType => ApiError::saying(
                code,
                "The Content-Type must be application/json, without compression",
            ),
            Self::Broken => ApiError::saying(
                code,
                "The request body did not arrive whole within 10 seconds",
            ),
        }
    }
}

/// The body of a request while it arrives.
pub(crate) struct Arriving {
    incoming: Incoming,
    /// A small body comes in one piece and is not copied.
    first: Bytes,
    rest: BytesMut,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    Whole,
    TooLarge,
    Broken,
}

impl Arriving {
    /// Reads nothing yet. A body whose declared length is too large is never read.
    pub(crate) fn new(incoming: Incoming) -> Self {
        let state = if incoming.is_end_stream() {
            State::Whole
        } else if incoming.size_hint().lower() > MAX_BODY_BYTES as u64 {
            State::TooLarge
        } else {
            State::Open
        };
        Self {
            incoming,
            first: Bytes::new(),
            rest: BytesMut::new(),
            state,
        }
    }

    /// Whether all of it was read.
    pub(crate) fn is_whole(&self) -> bool {
        self.state == State::Whole
    }

    /// Reads what came together with the head, and waits for nothing.
    pub(crate) async fn read_arrived(&mut self) {
        // hyper looks for a body once somebody has asked for it, when this task is polled again.
        let mut has_asked = false;
        std::future::poll_fn(|context| {
            while self.state == State::Open && self.len() < MAX_ARRIVED_BYTES {
                match self.poll_piece(context) {
                    Poll::Ready(piece) => self.keep(piece),
                    Poll::Pending if has_asked => break,
                    Poll::Pending => {
                        has_asked = true;
                        context.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                }
                has_asked = false;
            }
            Poll::Ready(())
        })
        .await;
    }

    /// Reads the rest.
    pub(crate) async fn read_rest(&mut self) {
        while self.state == State::Open {
            let piece = std::future::poll_fn(|context| self.poll_piece(context)).await;
            self.keep(piece);
        }
    }

    /// Reads the rest of a small body and keeps nothing, so that its sender may go on with the connection. A large one is left.
    pub(crate) async fn discard(&mut self) {
        let mut length = self.len();
        self.first.clear();
        self.rest = BytesMut::new();
        let rest = |incoming: &Incoming| usize::try_from(incoming.size_hint().lower());
        while self.state == State::Open
            && rest(&self.incoming).is_ok_and(|rest| length + rest <= MAX_ARRIVED_BYTES)
        {
            let piece = std::future::poll_fn(|context| self.poll_piece(context)).await;
            length += piece.map_or(0, |piece| piece.len());
        }
    }

    /// Takes the body, once it was read.
    pub(crate) fn take(&mut self, headers: &HeaderMap) -> Result<Bytes, BodyProblem> {
        match self.state {
            State::TooLarge => return Err(BodyProblem::TooLarge),
            State::Open | State::Broken => return Err(BodyProblem::Broken),
            State::Whole => {}
        }
        let (first, rest) = (
            std::mem::take(&mut self.first),
            std::mem::take(&mut self.rest),
        );
        let body = if rest.is_empty() {
            first
        } else {
            [first.as_ref(), rest.as_ref()].concat().into()
        };
        if !body.is_empty() && !is_json(headers) {
            Err(BodyProblem::WrongType)
        } else {
            Ok(body)
        }
    }

    fn len(&self) -> usize {
        self.first.len() + self.rest.len()
    }

    /// Returns the next piece and updates the state. `None` if the frame is not data.
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let piece = match ready!(Pin::new(&mut self.incoming).poll_frame(context)) {
            None => {
                self.state = State::Whole;
                None
            }
            Some(Err(_)) => {
                self.state = State::Broken;
                None
            }
            Some(Ok(frame)) => frame.into_data().ok(),
        };
        if self.state == State::Open && self.incoming.is_end_stream() {
            self.state = State::Whole;
        }
        Poll::Ready(piece)
    }

    fn keep(&mut self, piece: Option<Bytes>) {
        let Some(piece) = piece else { return };
        if self.len() + piece.len() > MAX_BODY_BYTES {
            self.state = State::TooLarge;
        } else if self.first.is_empty() {
            self.first = piece;
        } else {
            self.rest.extend_from_slice(&piece);
        }
    }
}

/// Whether the body is declared as JSON, or not at all, and is not compressed.
fn is_json(headers: &HeaderMap) -> bool {
    let is_plain = headers
        .get(CONTENT_ENCODING)
        .is_none_or(|encoding| encoding == "identity");
    let is_json = headers.get(CONTENT_TYPE).is_none_or(|kind| {
        let kind = kind.to_str().unwrap_or_default();
        kind.split(';')
            .next()
            .unwrap_or_default()
            .trim()
            .eq_ignore_ascii_case("application/json")
    });
    is_plain && is_json
}
