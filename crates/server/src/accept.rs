//! Connections: accepted, bounded in number and in time, and let go gently.
//!
//! Each thread has a runtime of its own and accepts from the same socket; a connection stays on its thread, so a request
//! never crosses cores. Once a second each thread looks at its connections and closes those that take too long over a head,
//! a body, or the next request. That costs a request two stores to memory instead of a timer.

use std::io;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;

use crate::app::answer;
use crate::call::App;
use crate::connection::{Watch, Watched};

/// How many connections may be open at once.
const MAX_CONNECTIONS: usize = 16_000;
/// The longest block of headers, the request line included.
const MAX_HEADER_BYTES: usize = 40 * 1024;
/// The same over HTTP/2. Beyond our own limit, so that we answer in our own words; a field counts 32 bytes more there.
const MAX_HEADER_LIST_BYTES: u32 = 20 * 1024;
/// How many bytes of a body may come over HTTP/2 before anybody reads it, for a stream and for all of a connection.
const STREAM_WINDOW_BYTES: u32 = 16 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 64 * 1024;
/// How often connections are looked at; the unit of the ages below.
const TICK: Duration = Duration::from_secs(1);
/// For how many ticks a thread that stops waits for its connections.
const MAX_STOPPING_TICKS: u64 = 12;

/// What the threads of a listener share.
pub(crate) struct Listener {
    pub(crate) app: Arc<App>,
    pub(crate) tls: Option<TlsAcceptor>,
    pub(crate) connections: Arc<AtomicUsize>,
    pub(crate) stop: watch::Receiver<bool>,
}

/// A socket on which connections arrive.
pub(crate) trait Socket {
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Returns the next connection and the peer's address.
    fn poll_accept(&self, context: &mut Context<'_>) -> Poll<io::Result<(Self::Stream, IpAddr)>>;
}

impl Socket for TcpListener {
    type Stream = TcpStream;

    fn poll_accept(&self, context: &mut Context<'_>) -> Poll<io::Result<(TcpStream, IpAddr)>> {
        let (stream, peer) = ready!(Self::poll_accept(self, context))?;
        let _ = stream.set_nodelay(true);
        Poll::Ready(Ok((stream, peer.ip().to_canonical())))
    }
}

/// Accepts and serves on this thread until `stop`, then lets the open connections end.
pub(crate) async fn run(listener: Arc<Listener>, socket: impl Socket) {
    let now = Arc::new(AtomicU64::new(0));
    let mut stop = listener.stop.clone();
    let mut open: Vec<(Arc<Watch>, AbortHandle)> = Vec::new();
    let mut ticks = tokio::time::interval(TICK);
    loop {
        tokio::select! {
            accepted = std::future::poll_fn(|context| socket.poll_accept(context)) => match accepted {
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
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: IpAddr,
    now: &Arc<AtomicU64>,
) -> Option<(Arc<Watch>, AbortHandle)> {
    let place = Place::take(listener)?;
    let watch = Arc::new(Watch::new(Arc::clone(now)));
    let task = tokio::spawn(serve(
        Arc::clone(listener),
        stream,
        peer,
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
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: IpAddr,
    watch: Arc<Watch>,
    _place: Place,
) {
    let app = Arc::clone(&listener.app);
    let stop = listener.stop.clone();
    let Some(tls) = &listener.tls else {
        let stream = Watched::new(stream, Arc::clone(&watch));
        return serve_http1(app, stream, peer, watch, stop).await;
    };
    // A peer that cannot shake hands is closed without a word.
    let Ok(stream) = tls.accept(stream).await else {
        return;
    };
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let stream = Watched::new(stream, Arc::clone(&watch));
    if is_http2 {
        serve_http2(app, stream, peer, watch, stop).await
    } else {
        serve_http1(app, stream, peer, watch, stop).await
    }
}

async fn serve_http1<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    app: Arc<App>,
    stream: S,
    peer: IpAddr,
    watch: Arc<Watch>,
    stop: watch::Receiver<bool>,
) {
    let metrics = Arc::clone(&app.metrics);
    let service = service_fn(move |request: Request<Incoming>| {
        let (app, watch) = (Arc::clone(&app), Arc::clone(&watch));
        async move { Ok::<_, std::convert::Infallible>(answer(&app, request, peer, &watch).await) }
    });
    // hyper takes 100 header lines at most unless told otherwise; to tell it the same would cost each request an allocation.
    let connection = hyper::server::conn::http1::Builder::new()
        .max_buf_size(MAX_HEADER_BYTES)
        .half_close(false)
        .serve_connection(TokioIo::new(stream), service);
    let ended = run_to_end(pin!(connection), stop, |connection| {
        connection.graceful_shutdown()
    })
    .await;
    // What cannot be read as a request hyper refuses by itself, without a body, and ends the connection.
    if ended.is_err_and(|error| error.is_parse()) {
        metrics.count_unreadable();
    }
}

async fn serve_http2<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    app: Arc<App>,
    stream: S,
    peer: IpAddr,
    watch: Arc<Watch>,
    stop: watch::Receiver<bool>,
) {
    watch.begin_http2();
    let service = service_fn(move |request: Request<Incoming>| {
        let (app, stream) = (Arc::clone(&app), watch.begin_stream());
        async move {
            let answer = answer(&app, request, peer, &stream.watch).await;
            Ok::<_, std::convert::Infallible>(stream.write(answer))
        }
    });
    let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(128)
        // Of bodies that nobody reads yet, so much may be on its way for each stream, and for the connection.
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_header_list_size(MAX_HEADER_LIST_BYTES)
        .max_pending_accept_reset_streams(20)
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10))
        .serve_connection(TokioIo::new(stream), service);
    // How it ended is of no interest: each request was answered, or its peer is gone.
    let _ = run_to_end(pin!(connection), stop, |connection| {
        connection.graceful_shutdown()
    })
    .await;
}

/// Drives a connection to its end. When the server stops, the connection is told to end with the requests it has.
async fn run_to_end<C: Future>(
    mut connection: Pin<&mut C>,
    mut stop: watch::Receiver<bool>,
    end_gracefully: impl Fn(Pin<&mut C>),
) -> C::Output {
    let changes = stop.clone();
    let mut stopping = pin!(stop.wait_for(|is_stopping| *is_stopping));
    let (mut is_registered, mut is_ending) = (false, false);
    std::future::poll_fn(|context| {
        if let Poll::Ready(ended) = connection.as_mut().poll(context) {
            return Poll::Ready(ended);
        }
        // To poll the watch takes a lock that all connections share. A task is woken by the same waker all its life, so
        // once is enough until there is something to see.
        if !is_ending && (!is_registered || changes.has_changed().unwrap_or(true)) {
            is_registered = true;
            if stopping.as_mut().poll(context).is_ready() {
                is_ending = true;
                end_gracefully(connection.as_mut());
                return connection.as_mut().poll(context);
            }
        }
        Poll::Pending
    })
    .await
}
