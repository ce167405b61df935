//! The operator's door: the same API on a Unix socket, for the operator on the authority's own machine.
//!
//! Callers present no credential. The operating system reports the user of each peer, and the door admits the user of
//! this process and root, who can read the data and the master key anyway (`docs/adr/0023-operators-door.md`). Requests
//! name the instance and the machine that they are about in headers, see `operator`.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::task::{Context, Poll, ready};
use std::thread::JoinHandle;

use countersign_authority::{Authority, Operator};
use countersign_protocol::random::Random;
use tokio::net::UnixStream;
use tokio::runtime;
use tokio::sync::watch;

use crate::accept::{self, Listener, Socket};
use crate::budget::Budget;
use crate::call::{App, Exposure};
use crate::host::{Hosts, Local};
use crate::metrics::Metrics;
use crate::pace::Turns;
use crate::{MAX_LARGE_KIB, MAX_LISTED_MACHINES, docs};

/// An open door. Dropping it without [`Door::close`] leaves its thread running until the process ends.
pub struct Door {
    stop: watch::Sender<bool>,
    thread: JoinHandle<()>,
}

impl std::fmt::Debug for Door {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Door").finish_non_exhaustive()
    }
}

impl Door {
    /// Serves `socket` on a new thread. All callers act as `operator`.
    ///
    /// # Errors
    /// An error if the runtime or the thread cannot be started.
    pub fn open(
        socket: UnixListener,
        authority: Arc<Authority>,
        operator: Operator,
        random: Arc<dyn Random>,
    ) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let (stop, stopping) = watch::channel(false);
        let app = App {
            authority,
            metrics: Arc::new(Metrics::new(Arc::default())),
            random,
            turns: Arc::new(Turns::new()),
            listed: Arc::new(Budget::new(
                MAX_LISTED_MACHINES,
                32 * MAX_LISTED_MACHINES as usize,
            )),
            large: Arc::new(Budget::new(MAX_LARGE_KIB, MAX_LARGE_KIB as usize)),
            trusted_proxies: Vec::new(),
            hosts: Hosts::new(Local::Nothing, ""),
            exposure: Exposure::Api,
            operator: Some(operator),
            docs: Arc::new(docs("")),
            mounts: Vec::new(),
            stop: stopping.clone(),
        };
        let listener = Arc::new(Listener {
            app: Arc::new(app),
            tls: None,
            connections: Arc::new(AtomicUsize::new(0)),
            stop: stopping,
        });
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let serve = move || {
            runtime.block_on(async move {
                match Entrance::new(socket) {
                    Ok(entrance) => accept::run(listener, entrance).await,
                    Err(error) => tracing::error!(%error, "the operator's door cannot be served"),
                }
            });
        };
        let thread = std::thread::Builder::new()
            .name("door".to_owned())
            .spawn(serve)?;
        Ok(Self { stop, thread })
    }

    /// Accepts no more connections, answers the requests that were received, and ends. Blocks until then, for at most
    /// about 12 s.
    pub fn close(self) {
        // The thread may have ended already.
        let _ = self.stop.send(true);
        if self.thread.join().is_err() {
            tracing::error!("the thread of the operator's door panicked");
        }
    }
}

/// The socket, and the user whose connections it admits.
struct Entrance {
    socket: tokio::net::UnixListener,
    own_uid: u32,
}

impl Entrance {
    fn new(socket: UnixListener) -> io::Result<Self> {
        Ok(Self {
            socket: tokio::net::UnixListener::from_std(socket)?,
            own_uid: rustix::process::geteuid().as_raw(),
        })
    }

    fn admits(&self, stream: &UnixStream) -> bool {
        match stream.peer_cred() {
            Ok(peer) if peer.uid() == self.own_uid || peer.uid() == 0 => true,
            Ok(peer) => {
                tracing::warn!(
                    peer.uid = peer.uid(),
                    "the operator's door refused a connection of another user"
                );
                false
            }
            Err(error) => {
                tracing::warn!(%error, "the operator's door refused a connection of an unknown user");
                false
            }
        }
    }
}

impl Socket for Entrance {
    type Stream = UnixStream;

    fn poll_accept(&self, context: &mut Context<'_>) -> Poll<io::Result<(UnixStream, IpAddr)>> {
        loop {
            let (stream, _) = ready!(self.socket.poll_accept(context))?;
            if self.admits(&stream) {
                return Poll::Ready(Ok((stream, IpAddr::V4(Ipv4Addr::LOCALHOST))));
            }
        }
    }
}
