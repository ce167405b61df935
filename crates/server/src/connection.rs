//! One connection's clock: what it is doing, since when, and how hyper's own refusals are worded.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::app::{App, refuse_unreadable};

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
        Stream(Arc::clone(self))
    }

    fn phase(&self) -> Phase {
        Phase::from_number(self.phase.load(Ordering::Relaxed))
    }

    pub(crate) fn is_overdue(&self) -> bool {
        let age = self
            .now
            .load(Ordering::Relaxed)
            .saturating_sub(self.since.load(Ordering::Relaxed));
        age > self.phase().max_ticks()
    }
}

/// An open stream of an HTTP/2 connection.
pub(crate) struct Stream(pub(crate) Arc<Watch>);

impl Drop for Stream {
    fn drop(&mut self) {
        if self.0.streams.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.set(Phase::Idle);
        }
    }
}

/// A stream that tells its watch when a head begins and when the connection is idle again.
///
/// What hyper cannot read as a request it refuses by itself, with an empty body. Such a refusal is swallowed here and the usual
/// envelope is sent in its place.
pub(crate) struct Watched<S> {
    stream: S,
    watch: Arc<Watch>,
    app: Arc<App>,
    /// What is left to send of our own refusal; the connection ends with it.
    refusal: Option<Vec<u8>>,
}

impl<S> Watched<S> {
    pub(crate) fn new(stream: S, watch: Arc<Watch>, app: Arc<App>) -> Self {
        Self {
            stream,
            watch,
            app,
            refusal: None,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
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

impl<S: AsyncWrite + Unpin> Watched<S> {
    /// Whether hyper refuses by itself; ours is sent in place of it.
    fn is_replaced(&mut self, head: &[u8]) -> bool {
        if self.refusal.is_none() && self.watch.phase() == Phase::Head {
            self.refusal = own_refusal(head).map(|status| refuse_unreadable(&self.app, status));
        }
        self.refusal.is_some()
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

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_replaced(bytes) {
            return Poll::Ready(Ok(bytes.len()));
        }
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if slices.first().is_some_and(|head| self.is_replaced(head)) {
            return Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()));
        }
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
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

/// The status of an answer that hyper made by itself. All of ours have a content type.
fn own_refusal(bytes: &[u8]) -> Option<u16> {
    let text = std::str::from_utf8(bytes).ok()?;
    let status = text.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    (status >= 400 && !text.contains("content-type:")).then_some(status)
}
