//! One connection's clock: what it is doing, since when, and how hyper's own refusals are worded.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use http_body_util::Full;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::reply::{Answer, held};

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    /// Waiting for the next request.
    Idle,
    /// Reading a head, or shaking hands.
    Head,
    /// Reading a body.
    Body,
    /// Working on the answer; the handler has a timer of its own.
    Handling,
    /// Writing the answer.
    Writing,
}

impl Phase {
    /// For how many ticks a connection may stay in this phase.
    fn max_ticks(self) -> u64 {
        match self {
            Self::Idle => 60,
            Self::Head | Self::Body => 10,
            Self::Handling | Self::Writing => 30,
        }
    }

    fn from_number(number: u8) -> Self {
        match number {
            0 => Self::Idle,
            1 => Self::Head,
            2 => Self::Body,
            3 => Self::Handling,
            _ => Self::Writing,
        }
    }
}

/// A connection's phase and since when, in ticks of its thread.
#[derive(Debug)]
pub(crate) struct Watch {
    /// How many streams of an HTTP/2 connection are open; they, not the bytes, make its phase.
    streams: AtomicUsize,
    /// Since when answers on streams are written, and how many of each age; the oldest has a limit whatever else happens.
    writing: Mutex<BTreeMap<u64, usize>>,
    is_http2: AtomicBool,
    phase: AtomicU8,
    since: AtomicU64,
    now: Arc<AtomicU64>,
}

impl Watch {
    pub(crate) fn new(now: Arc<AtomicU64>) -> Self {
        let since = AtomicU64::new(now.load(Ordering::Relaxed));
        Self {
            streams: AtomicUsize::new(0),
            writing: Mutex::default(),
            is_http2: AtomicBool::new(false),
            phase: AtomicU8::new(Phase::Head as u8),
            since,
            now,
        }
    }

    /// Begins a phase.
    pub(crate) fn enter(&self, phase: Phase) {
        if self.is_http2.load(Ordering::Relaxed) {
            return;
        }
        self.set(phase);
    }

    fn set(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
        self.since
            .store(self.now.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// From here on, streams make the phase. Each has limits of its own for body and answer.
    pub(crate) fn begin_http2(&self) {
        self.set(Phase::Idle);
        self.is_http2.store(true, Ordering::Relaxed);
    }

    pub(crate) fn begin_stream(self: &Arc<Self>) -> Stream {
        self.streams.fetch_add(1, Ordering::Relaxed);
        self.set(Phase::Handling);
        Stream {
            watch: Arc::clone(self),
            written_since: None,
        }
    }

    fn phase(&self) -> Phase {
        Phase::from_number(self.phase.load(Ordering::Relaxed))
    }

    pub(crate) fn is_overdue(&self) -> bool {
        let now = self.now.load(Ordering::Relaxed);
        let age = |since| now.saturating_sub(since);
        age(self.since.load(Ordering::Relaxed)) > self.phase().max_ticks()
            || self
                .writing()
                .first_key_value()
                .is_some_and(|(&since, _)| age(since) > Phase::Writing.max_ticks())
    }

    fn writing(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, usize>> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An open stream of an HTTP/2 connection, until the last byte of its answer is written.
pub(crate) struct Stream {
    pub(crate) watch: Arc<Watch>,
    /// When its answer was ready.
    written_since: Option<u64>,
}

impl Stream {
    /// The same answer, whose bytes keep the stream open. Flow control may hold them back long after hyper let go of the body.
    pub(crate) fn write(mut self, answer: Answer) -> Answer {
        let now = self.watch.now.load(Ordering::Relaxed);
        self.written_since = Some(now);
        *self.watch.writing().entry(now).or_default() += 1;
        answer.map(|body| {
            let bytes = body.into_inner().unwrap_or_default();
            if bytes.is_empty() {
                return Full::new(bytes);
            }
            Full::new(held(bytes, self))
        })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some(since) = self.written_since {
            let mut writing = self.watch.writing();
            if let Some(count) = writing.get_mut(&since) {
                *count -= 1;
                if *count == 0 {
                    writing.remove(&since);
                }
            }
        }
        if self.watch.streams.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.watch.set(Phase::Idle);
        }
    }
}

/// A stream that tells its watch when a head begins and when the connection is idle again.
///
/// What hyper cannot read as a request it refuses by itself, with an empty body. Such a refusal is swallowed here and the usual
/// envelope, which `refuse` writes, is sent in its place.
pub(crate) struct Watched<S, R> {
    stream: S,
    watch: Arc<Watch>,
    refuse: R,
    /// What is left to send of our own refusal; the connection ends with it.
    refusal: Option<Vec<u8>>,
    /// Whether not all was taken that was last to be written. hyper puts a refusal in front of what is left.
    is_behind: bool,
}

impl<S, R> Watched<S, R> {
    pub(crate) fn new(stream: S, watch: Arc<Watch>, refuse: R) -> Self {
        Self {
            stream,
            watch,
            refuse,
            refusal: None,
            is_behind: false,
        }
    }
}

impl<S: AsyncRead + Unpin, R: Unpin> AsyncRead for Watched<S, R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        match (self.watch.phase(), read.is_pending()) {
            (Phase::Idle | Phase::Writing, false) => self.watch.enter(Phase::Head),
            (Phase::Writing, true) => self.watch.enter(Phase::Idle),
            _ => {}
        }
        read
    }
}

impl<S: AsyncWrite + Unpin, R: Fn(u16) -> Vec<u8> + Unpin> Watched<S, R> {
    /// Whether hyper refuses by itself; ours is sent in place of it. An error where it would get into the middle of an answer.
    fn is_replaced(&mut self, head: &[u8]) -> io::Result<bool> {
        let may_be_refusal = matches!(
            self.watch.phase(),
            Phase::Head | Phase::Writing | Phase::Idle
        ) && !self.watch.is_http2.load(Ordering::Relaxed);
        if self.refusal.is_none()
            && may_be_refusal
            && let Some(status) = own_refusal(head)
        {
            if self.is_behind {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            self.refusal = Some((self.refuse)(status));
        }
        Ok(self.refusal.is_some())
    }

    fn note(&mut self, written: &Poll<io::Result<usize>>, offered: usize) {
        self.is_behind = !matches!(written, Poll::Ready(Ok(count)) if *count == offered);
    }

    fn poll_refusal(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.refusal.as_mut().filter(|rest| !rest.is_empty()) {
            let sent = ready!(Pin::new(&mut self.stream).poll_write(context, rest))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            rest.drain(..sent);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin, R: Fn(u16) -> Vec<u8> + Unpin> AsyncWrite for Watched<S, R> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_replaced(bytes)? {
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.note(&written, bytes.len());
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = slices.iter().map(|slice| slice.len()).sum();
        if let Some(head) = slices.first()
            && self.is_replaced(head)?
        {
            return Poll::Ready(Ok(length));
        }
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.note(&written, length);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_refusal(context))?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_refusal(context))?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// The status of an answer that hyper made by itself: a head alone. All of ours have a content type, and no JSON has such an end.
fn own_refusal(bytes: &[u8]) -> Option<u16> {
    let status = bytes.strip_prefix(b"HTTP/1.1 ")?.get(..3)?;
    if status < b"400".as_slice() || !bytes.ends_with(b"\r\n\r\n") {
        return None;
    }
    let text = std::str::from_utf8(bytes).ok()?;
    let status = std::str::from_utf8(status).ok()?.parse().ok()?;
    (!text.contains("content-type:")).then_some(status)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::reply::written;

    const REFUSAL: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";

    /// What `Watched` makes of hyper's refusal behind an answer of which the other end takes 20 bytes.
    async fn refuse_behind(answer: &[u8]) -> (io::Result<()>, Vec<u8>) {
        let (ours, mut theirs) = tokio::io::duplex(20);
        let watch = Arc::new(Watch::new(Arc::default()));
        watch.enter(Phase::Writing);
        let mut watched = Watched::new(ours, watch, |status: u16| status.to_string().into_bytes());
        let count = watched.write(answer).await.unwrap();
        let mut said = vec![0; count];
        theirs.read_exact(&mut said).await.unwrap();
        let refuse = async move {
            watched.write_all(REFUSAL).await?;
            watched.flush().await
        };
        let (outcome, read) = tokio::join!(refuse, theirs.read_to_end(&mut said));
        read.unwrap();
        (outcome, said)
    }

    #[tokio::test]
    async fn a_refusal_of_hyper_is_replaced_behind_an_answer_and_never_inside_of_one() {
        let (outcome, said) = refuse_behind(b"a whole answer").await;
        assert!(outcome.is_ok(), "{outcome:?}");
        assert_eq!(said, b"a whole answer400");
        let (outcome, said) = refuse_behind(b"an answer that does not fit at once").await;
        assert!(outcome.is_err());
        assert_eq!(said, b"an answer that does ");
    }

    #[test]
    fn only_a_head_without_a_content_type_is_a_refusal_of_hyper() {
        assert_eq!(own_refusal(REFUSAL), Some(400));
        for other in [
            "HTTP/1.1 100 Continue\r\n\r\n",
            "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\n\r\n",
            "HTTP/1.1 400 is the name of a machine\"}",
        ] {
            assert_eq!(own_refusal(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn an_answer_over_http_2_that_nobody_reads_is_overdue_whatever_else_is_asked() {
        let now = Arc::new(AtomicU64::new(0));
        let watch = Arc::new(Watch::new(Arc::clone(&now)));
        watch.begin_http2();
        let unread = watch.begin_stream().write(written(200, "unread"));
        for second in 1..=31 {
            now.store(second, Ordering::Relaxed);
            assert_eq!(watch.is_overdue(), second > 30, "{second}");
            drop(watch.begin_stream().write(written(200, "read at once")));
        }
        drop(unread);
        assert!(!watch.is_overdue(), "nothing is written any more");
        assert_eq!(watch.phase(), Phase::Idle);
    }
}
