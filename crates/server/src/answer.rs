//! An answer: its body is bytes that are ready or any other body, and holds what is free again once its last byte is written.

use std::any::Any;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};

/// What a request is answered with.
pub(crate) type Answer = Response<AnswerBody>;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The body of an answer.
pub(crate) struct AnswerBody {
    content: Content,
    held: Option<Arc<dyn Any + Send + Sync>>,
}

/// Most answers are bytes, which need no box.
enum Content {
    Ready(Full<Bytes>),
    Coming(UnsyncBoxBody<Bytes, BoxError>),
}

impl AnswerBody {
    /// Bytes that are ready.
    pub(crate) fn ready(bytes: Bytes) -> Self {
        Self {
            content: Content::Ready(Full::new(bytes)),
            held: None,
        }
    }

    /// A body of any type. It must end within the time that a peer has to read an answer.
    pub(crate) fn coming<B>(body: B) -> Self
    where
        B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        Self {
            content: Content::Coming(body.map_err(Into::into).boxed_unsync()),
            held: None,
        }
    }

    /// Holds `guard` as well until the last byte is written. hyper may let go of the body long before that, so each piece of it
    /// holds the guard, too.
    pub(crate) fn holding(mut self, guard: impl Send + Sync + 'static) -> Self {
        self.held = Some(match self.held.take() {
            None => Arc::new(guard),
            Some(others) => Arc::new((others, guard)),
        });
        self
    }

    /// Lets go of what it holds.
    pub(crate) fn released(mut self) -> Self {
        self.held = None;
        self
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = match &mut self.content {
            Content::Ready(bytes) => ready!(Pin::new(bytes).poll_frame(context))
                .map(|frame| frame.map_err(|never| match never {})),
            Content::Coming(body) => ready!(Pin::new(body).poll_frame(context)),
        };
        Poll::Ready(match (&self.held, frame) {
            (Some(held), Some(Ok(frame))) => {
                Some(Ok(frame.map_data(|data| holding(data, Arc::clone(held)))))
            }
            (_, frame) => frame,
        })
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Ready(bytes) => bytes.is_end_stream(),
            Content::Coming(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Ready(bytes) => bytes.size_hint(),
            Content::Coming(body) => body.size_hint(),
        }
    }
}

/// Bytes that hold a guard until the last copy of them is dropped.
fn holding(bytes: Bytes, guard: Arc<dyn Any + Send + Sync>) -> Bytes {
    struct Holding(
        Bytes,
        #[expect(dead_code, reason = "held, not looked at")] Arc<dyn Any + Send + Sync>,
    );
    impl AsRef<[u8]> for Holding {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    Bytes::from_owner(Holding(bytes, guard))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_guard_is_held_until_the_last_piece_is_dropped() {
        for body in [
            AnswerBody::ready("a piece".into()),
            AnswerBody::coming(Full::new(Bytes::from("a piece"))),
        ] {
            let (first, second) = (Arc::new(()), Arc::new(()));
            let mut body = body
                .holding(Arc::clone(&first))
                .holding(Arc::clone(&second));
            let piece = body.frame().await.unwrap().unwrap().into_data().unwrap();
            assert_eq!(piece, "a piece");
            assert!(body.frame().await.is_none());
            drop(body);
            assert_eq!([&first, &second].map(Arc::strong_count), [2, 2]);
            drop(piece);
            assert_eq!([&first, &second].map(Arc::strong_count), [1, 1]);
        }
        let guard = Arc::new(());
        let body = AnswerBody::ready(Bytes::new()).holding(Arc::clone(&guard));
        let released = body.released();
        assert_eq!(Arc::strong_count(&guard), 1);
        drop(released);
    }
}
