//! Connections: accepted, bounded in number and in time, and let go gently.
//!
//! Each thread has a runtime of its own and accepts from the same socket; a connection stays on its thread, so a request
//! never crosses cores. Once a second each thread looks at its connections and closes those that take too long over a head,
//! a body, or the next request. That costs a request two stores to memory instead of a timer.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;

use crate::app::{App, answer};

/// How many connections may be open at once.
const MAX_CONNECTIONS: usize = 16_000;
/// The longest block of headers, the request line included.
const MAX_HEADER_BYTES: usize = 40 * 1024;
/// How often connections are looked at; the unit of the ages below.
const TICK: Duration = Duration::from_secs(1);
/// For how many ticks a thread that stops waits for its connections.
const MAX_STOPPING_TICKS: u64 = 12;

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
    fn new(now: Arc<AtomicU64>) -> Self {
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
    fn begin_http2(&self) {
        self.set(Phase::Idle);
        self.is_http2.store(true, Ordering::Relaxed);
    }

    fn begin_stream(self: &Arc<Self>) -> Stream {
        self.streams.fetch_add(1, Ordering::Relaxed);
        self.set(Phase::Handling);
        Stream(Arc::clone(self))
    }

    fn phase(&self) -> Phase {
        Phase::from_number(self.phase.load(Ordering::Relaxed))
    }

    fn is_overdue(&self) -> bool {
        let age = self
            .now
            .load(Ordering::Relaxed)
            .saturating_sub(self.since.load(Ordering::Relaxed));
        age > self.phase().max_ticks()
    }
}

/// An open stream of an HTTP/2 connection.
struct Stream(Arc<Watch>);

impl Drop for Stream {
    fn drop(&mut self) {
        if self.0.streams.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.set(Phase::Idle);
        }
    }
}

/// A stream that tells its watch when a head begins and when the connection is idle again.
struct Watched<S> {
    stream: S,
    watch: Arc<Watch>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        match (self.watch.phase(), read.is_pending()) {
            (Phase::Idle, false) => self.watch.enter(Phase::Head),
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
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
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

/// What the threads of a listener share.
pub(crate) struct Listener {
    pub(crate) app: Arc<App>,
    pub(crate) tls: Option<TlsAcceptor>,
    pub(crate) connections: Arc<AtomicUsize>,
    pub(crate) stop: watch::Receiver<bool>,
}

/// Accepts and serves on this thread until `stop`, then lets the open connections end.
pub(crate) async fn run(listener: Arc<Listener>, socket: TcpListener) {
    let now = Arc::new(AtomicU64::new(0));
    let mut stop = listener.stop.clone();
    let mut open: Vec<(Arc<Watch>, AbortHandle)> = Vec::new();
    let mut ticks = tokio::time::interval(TICK);
    loop {
        tokio::select! {
            accepted = socket.accept() => match accepted {
                Ok((stream, peer)) => open.extend(start(&listener, stream, peer, &now)),
                Err(error) => {
                    // Out of descriptors or the like: wait for some to come back, do not spin.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            _ = ticks.tick() => look_after(&now, &mut open),
            _ = stop.wait_for(|is_stopping| *is_stopping) => break,
        }
    }
    // Those who connected before the end still get their answers.
    while let Poll::Ready(Ok((stream, peer))) =
        std::future::poll_fn(|context| Poll::Ready(socket.poll_accept(context))).await
    {
        open.extend(start(&listener, stream, peer, &now));
    }
    drop(socket);
    let end = now.load(Ordering::Relaxed) + MAX_STOPPING_TICKS;
    while open.iter().any(|(_, task)| !task.is_finished()) && now.load(Ordering::Relaxed) < end {
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(10)) => open.retain(|(_, task)| !task.is_finished()),
            _ = ticks.tick() => look_after(&now, &mut open),
        }
    }
}

/// Closes the connections that take too long, and forgets those that have ended.
fn look_after(now: &AtomicU64, open: &mut Vec<(Arc<Watch>, AbortHandle)>) {
    now.fetch_add(1, Ordering::Relaxed);
    open.retain(|(watch, task)| {
        if watch.is_overdue() {
            task.abort();
        }
        !task.is_finished()
    });
}

fn start(
    listener: &Arc<Listener>,
    stream: TcpStream,
    peer: SocketAddr,
    now: &Arc<AtomicU64>,
) -> Option<(Arc<Watch>, AbortHandle)> {
    let place = Place::take(listener)?;
    let _ = stream.set_nodelay(true);
    let watch = Arc::new(Watch::new(Arc::clone(now)));
    let task = tokio::spawn(serve(
        Arc::clone(listener),
        stream,
        peer.ip().to_canonical(),
        Arc::clone(&watch),
        place,
    ));
    Some((watch, task.abort_handle()))
}

/// A place among the open connections, given back when dropped. Beyond the bound a newcomer is turned away at once.
struct Place(Arc<Listener>);

impl Place {
    fn take(listener: &Arc<Listener>) -> Option<Self> {
        if listener.connections.fetch_add(1, Ordering::Relaxed) >= MAX_CONNECTIONS {
            listener.connections.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        listener.app.metrics.connections.inc();
        Some(Self(Arc::clone(listener)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
        self.0.app.metrics.connections.dec();
    }
}

async fn serve(
    listener: Arc<Listener>,
    stream: TcpStream,
    peer: IpAddr,
    watch: Arc<Watch>,
    _place: Place,
) {
    let app = Arc::clone(&listener.app);
    let stop = listener.stop.clone();
    let Some(tls) = &listener.tls else {
        return serve_http1(
            app,
            Watched {
                stream,
                watch: Arc::clone(&watch),
            },
            peer,
            watch,
            stop,
        )
        .await;
    };
    // A peer that cannot shake hands is closed without a word, like one that sends no HTTP.
    let Ok(stream) = tls.accept(stream).await else {
        return;
    };
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let stream = Watched {
        stream,
        watch: Arc::clone(&watch),
    };
    if is_http2 {
        serve_http2(app, stream, peer, watch, stop).await
    } else {
        serve_http1(app, stream, peer, watch, stop).await
    }
}

async fn serve_http1<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    app: Arc<App>,
    stream: Watched<S>,
    peer: IpAddr,
    watch: Arc<Watch>,
    mut stop: watch::Receiver<bool>,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        let (app, watch) = (Arc::clone(&app), Arc::clone(&watch));
        async move { Ok::<_, std::convert::Infallible>(answer(&app, request, peer, &watch).await) }
    });
    // hyper takes 100 header lines at most unless told otherwise; to tell it the same would cost each request an allocation.
    let connection = hyper::server::conn::http1::Builder::new()
        .max_buf_size(MAX_HEADER_BYTES)
        .half_close(false)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        biased;
        _ = connection.as_mut() => return,
        _ = stop.wait_for(|is_stopping| *is_stopping) => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

async fn serve_http2<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    app: Arc<App>,
    stream: Watched<S>,
    peer: IpAddr,
    watch: Arc<Watch>,
    mut stop: watch::Receiver<bool>,
) {
    watch.begin_http2();
    let service = service_fn(move |request: Request<Incoming>| {
        let (app, stream) = (Arc::clone(&app), watch.begin_stream());
        async move { Ok::<_, std::convert::Infallible>(answer(&app, request, peer, &stream.0).await) }
    });
    let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(128)
        .max_header_list_size(32 * 1024)
        .max_pending_accept_reset_streams(20)
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10))
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        biased;
        _ = connection.as_mut() => return,
        _ = stop.wait_for(|is_stopping| *is_stopping) => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}
