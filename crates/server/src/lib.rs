//! The HTTP face of an authority: the wire protocol, its OpenAPI document, health and metrics.
//!
//! A request goes three hops: a handler in `api` parses and wraps, one method of `countersign_authority` decides, one
//! operation of the store remembers. The server runs hyper directly, one single-threaded runtime per core, because the
//! answer to a verification costs less than a hand-over between threads.

mod accept;
mod answer;
mod api;
mod app;
mod body;
mod budget;
mod call;
mod connection;
mod docs;
mod door;
mod fields;
mod forwarded;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod host;
mod metrics;
mod mount;
mod openapi;
mod operation;
mod operator;
mod pace;
#[cfg(test)]
mod reference;
mod reply;
mod route;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, LazyLock};
use std::thread::JoinHandle;

use countersign_authority::Authority;
use countersign_protocol::random::Random;
use ipnet::IpNet;
use tokio::runtime;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::accept::Listener;
use crate::budget::Budget;
use crate::call::{App, Exposure};
use crate::docs::{Docs, MakeDocs};
use crate::host::{Hosts, Local};
use crate::metrics::Metrics;
use crate::pace::Turns;

pub use crate::door::Door;
pub use crate::mount::{ClientAddress, Mount};

/// How many machines of one instance may stand in large pages that are made at a time, and twice as many of all: one has up to
/// 150 others inside, so that a page of 500 may be 30 MB.
const MAX_LISTED_MACHINES: u32 = 500;
/// How many KiB of large answers may be on their way for one instance, and twice as many for all.
const MAX_LARGE_KIB: u32 = 32 * 1024;
/// How many connections may wait to be accepted.
const BACKLOG: i32 = 4_096;

/// What an operator decides about the server.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// Where to listen; port 0 picks a free one.
    pub listen: SocketAddr,
    /// Where to show the metrics; `None` for the same place where that is loopback, else nowhere.
    pub admin_listen: Option<SocketAddr>,
    /// How many threads answer requests.
    pub threads: usize,
    /// TLS, where the server does it itself.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// What is served beside the API. Where a path is of an operation, that answers.
    pub mounts: Vec<Mount>,
    /// Whether the server is for this machine only. Then it answers only requests that name this machine as their host.
    pub is_for_this_machine: bool,
    /// How many lines of the log could not be written so far, for the metrics.
    pub lost_log_lines: Arc<AtomicU64>,
}

/// Addresses that are taken, so that what can be refused is refused before anything else is opened.
#[derive(Debug)]
pub struct Sockets {
    main: TcpListener,
    admin: Option<TcpListener>,
}

impl Sockets {
    /// Listens. Who connects waits until a server starts on these sockets.
    ///
    /// # Errors
    /// Where an address cannot be listened on, for instance because somebody else does.
    pub fn bind(listen: SocketAddr, admin_listen: Option<SocketAddr>) -> io::Result<Self> {
        Ok(Self {
            main: bind(listen)?,
            admin: admin_listen.map(bind).transpose()?,
        })
    }

    /// Where the server will be reached.
    ///
    /// # Errors
    /// Where the operating system does not say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.main.local_addr()
    }
}

/// A server that listens.
pub struct Server {
    address: SocketAddr,
    admin_address: Option<SocketAddr>,
    stop: watch::Sender<bool>,
    threads: Vec<JoinHandle<()>>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Server")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Server {
    /// Listens as the options say, and starts.
    ///
    /// # Errors
    /// Where an address cannot be listened on, a thread or runtime cannot be started.
    pub fn start(
        authority: Arc<Authority>,
        random: Arc<dyn Random>,
        options: &ServerOptions,
    ) -> io::Result<Self> {
        let sockets = Sockets::bind(options.listen, options.admin_listen)?;
        Self::start_on(sockets, authority, random, options)
    }

    /// Begins to answer, on threads of its own.
    ///
    /// # Errors
    /// Where a thread or runtime cannot be started.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a server owns what its threads share"
    )]
    pub fn start_on(
        sockets: Sockets,
        authority: Arc<Authority>,
        random: Arc<dyn Random>,
        options: &ServerOptions,
    ) -> io::Result<Self> {
        let (stop, stopping) = watch::channel(false);
        let Sockets {
            main: socket,
            admin,
        } = sockets;
        let address = socket.local_addr()?;
        let metrics = Arc::new(Metrics::new(Arc::clone(&options.lost_log_lines)));
        let docs = Arc::new(docs(&authority.options().public_url));
        LazyLock::force(&docs);
        let turns = Arc::new(Turns::new());
        // Whoever waits to make a page costs nothing yet; an answer that waits is made already.
        let listed = Budget::new(MAX_LISTED_MACHINES, 32 * MAX_LISTED_MACHINES as usize);
        let large = Budget::new(MAX_LARGE_KIB, MAX_LARGE_KIB as usize);
        let (listed, large) = (Arc::new(listed), Arc::new(large));
        let public_url = authority.options().public_url.clone();
        let app = |exposure, local| {
            Arc::new(App {
                authority: Arc::clone(&authority),
                metrics: Arc::clone(&metrics),
                random: Arc::clone(&random),
                turns: Arc::clone(&turns),
                listed: Arc::clone(&listed),
                large: Arc::clone(&large),
                trusted_proxies: options.trusted_proxies.clone(),
                hosts: Hosts::new(local, &public_url),
                exposure,
                operator: None,
                docs: Arc::clone(&docs),
                mounts: options.mounts.clone(),
                stop: stopping.clone(),
            })
        };
        let connections = Arc::new(AtomicUsize::new(0));
        let listener = |exposure, local, tls: Option<TlsAcceptor>| {
            let (connections, stop) = (Arc::clone(&connections), stopping.clone());
            Arc::new(Listener {
                app: app(exposure, local),
                tls,
                connections,
                stop,
            })
        };
        let is_private =
            admin.is_none() && address.ip().is_loopback() && options.trusted_proxies.is_empty();
        let exposure = if is_private {
            Exposure::ApiAndMetrics
        } else {
            Exposure::Api
        };
        let local = match options.is_for_this_machine {
            true => Local::Everything,
            false => local_metrics(address),
        };
        let main = listener(exposure, local, options.tls.clone().map(TlsAcceptor::from));
        let mut server = Self {
            address,
            admin_address: None,
            stop,
            threads: Vec::new(),
        };
        for number in 0..options.threads.max(1) {
            server.spawn(
                format!("http-{number}"),
                Arc::clone(&main),
                socket.try_clone()?,
            )?;
        }
        if let Some(socket) = admin {
            let address = socket.local_addr()?;
            server.admin_address = Some(address);
            server.spawn(
                "admin".to_owned(),
                listener(Exposure::Metrics, local_metrics(address), None),
                socket,
            )?;
        }
        Ok(server)
    }

    fn spawn(
        &mut self,
        name: String,
        listener: Arc<Listener>,
        socket: TcpListener,
    ) -> io::Result<()> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let serve = move || {
            runtime.block_on(async move {
                match tokio::net::TcpListener::from_std(socket) {
                    Ok(socket) => accept::run(listener, socket).await,
                    Err(error) => tracing::error!(%error, "cannot watch the listening socket"),
                }
            });
        };
        self.threads
            .push(std::thread::Builder::new().name(name).spawn(serve)?);
        Ok(())
    }

    /// Where the server listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the metrics are, if apart.
    #[must_use]
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin_address
    }

    /// Takes no new connection, answers what was asked, and ends. Blocks for that time, at most about 12 s.
    pub fn stop(self) {
        // Nobody receives where all threads have ended already.
        let _ = self.stop.send(true);
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a server thread panicked");
            }
        }
    }
}

/// Returns the documentation of the API, built on first use.
fn docs(public_url: &str) -> LazyLock<Docs, MakeDocs> {
    let url: Option<http::Uri> = public_url.parse().ok();
    let base = url.map_or_else(String::new, |url| {
        url.path().trim_end_matches('/').to_owned()
    });
    LazyLock::new(Box::new(move || {
        Docs::new(openapi::document(route::ROWS, &base))
    }))
}

/// Which requests must name this machine at an address for this machine.
fn local_metrics(address: SocketAddr) -> Local {
    if address.ip().to_canonical().is_loopback() {
        Local::Metrics
    } else {
        Local::Nothing
    }
}

/// Listens, and fails where somebody else does.
fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(
        socket2::Domain::for_address(address),
        socket2::Type::STREAM,
        None,
    )?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
