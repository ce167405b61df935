//! One connection's clock: what it is doing, and since when.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::reply::Answer;

/// The longest head and body that are written as one piece: the kernel takes one piece faster than two, by more than a copy costs.
const MAX_JOINED_BYTES: usize = 1024;

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
    /// Working on the answer. The handler has its own time limit, which is longer for requests that wait for an event.
    Handling,
    /// Writing the answer.
    Writing,
}

impl Phase {
    /// For how many ticks a connection may stay in this phase.
    fn max_ticks(self, is_waiting: bool) -> u64 {
        match self {
            Self::Idle => 60,
            Self::Head | Self::Body => 10,
            Self::Handling if is_waiting => 70,
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
    /// How many requests wait for something to happen.
    waits: AtomicUsize,
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
            waits: AtomicUsize::new(0),
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

    /// A request waits for something to happen until what is returned is dropped.
    pub(crate) fn begin_wait(&self) -> Wait<'_> {
        self.waits.fetch_add(1, Ordering::Relaxed);
        Wait(self)
    }

    fn phase(&self) -> Phase {
        Phase::from_number(self.phase.load(Ordering::Relaxed))
    }

    pub(crate) fn is_overdue(&self) -> bool {
        let now = self.now.load(Ordering::Relaxed);
        let age = |since| now.saturating_sub(since);
        let is_waiting = self.waits.load(Ordering::Relaxed) > 0;
        let most = self.phase().max_ticks(is_waiting);
        age(self.since.load(Ordering::Relaxed)) > most
            || self
                .writing()
                .first_key_value()
                .is_some_and(|(&since, _)| age(since) > Phase::Writing.max_ticks(false))
    }

    fn writing(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, usize>> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that waits for something to happen.
pub(crate) struct Wait<'a>(&'a Watch);

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        self.0.waits.fetch_sub(1, Ordering::Relaxed);
        // What comes next has its own time.
        self.0.set(self.0.phase());
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
        answer.map(|body| body.holding(self))
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
pub(crate) struct Watched<S> {
    stream: S,
    watch: Arc<Watch>,
}

impl<S> Watched<S> {
    pub(crate) fn new(stream: S, watch: Arc<Watch>) -> Self {
        Self { stream, watch }
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

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = slices.iter().map(|slice| slice.len()).sum();
        let mut joined = [0; MAX_JOINED_BYTES];
        let Some(mut room) = joined.get_mut(..length) else {
            return Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        };
        for slice in slices {
            let (place, rest) = room.split_at_mut(slice.len());
            place.copy_from_slice(slice);
            room = rest;
        }
        self.poll_write(context, joined.get(..length).unwrap_or_default())
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reply::written;

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
