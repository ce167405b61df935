//! `countersign serve`, and what it shares with `dev`: run until told to stop, then end without losing anything.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use countersign_authority::{Authority, AuthorityOptions, FLUSH_INTERVAL, Operator, SystemRandom};
use countersign_protocol::door::SOCKET;
use countersign_server::{Server, ServerOptions, Sockets};
use tokio::signal::unix::{SignalKind, signal};

use crate::door::OpenDoor;
use crate::exit::{Code, Failure};
use crate::settings::{LogFormat, Settings};
use crate::{folder, process, stderr, tls};

/// Serves an authority that `init` made.
pub(crate) async fn run(settings: Settings) -> Result<(), Failure> {
    let folder = settings.data_folder()?;
    let prepared = Preparation::new(&settings)?;
    let options = authority_options(&settings, &prepared);
    let opened = folder::open(
        &folder,
        settings.master_key_file.as_deref(),
        settings.token_index_mib,
        options,
    )
    .await?;
    serve(&folder, opened, &settings, prepared, false, |_| Ok(())).await
}

/// What the settings say about the authority.
pub(crate) fn authority_options(settings: &Settings, prepared: &Preparation) -> AuthorityOptions {
    let public_url = settings
        .public_url
        .clone()
        .unwrap_or_else(|| prepared.url());
    let defaults = AuthorityOptions::default();
    AuthorityOptions {
        public_url,
        signers: cores(),
        max_failures: settings.max_auth_failures.unwrap_or(defaults.max_failures),
        max_reveals: settings.max_reveals.unwrap_or(defaults.max_reveals),
        ..defaults
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// What can be refused before the data are touched: a wrong certificate, a taken address.
pub(crate) struct Preparation {
    tls: Option<Arc<rustls::ServerConfig>>,
    sockets: Sockets,
    address: SocketAddr,
}

impl Preparation {
    pub(crate) fn new(settings: &Settings) -> Result<Self, Failure> {
        let tls = tls::config(settings)?;
        let sockets = Sockets::bind(settings.listen(), settings.admin_listen)
            .map_err(|error| taken(settings, &error))?;
        let address = sockets.address().map_err(|error| taken(settings, &error))?;
        Ok(Self {
            tls,
            sockets,
            address,
        })
    }

    /// Whether the server can be reached from this machine only.
    pub(crate) fn is_loopback(&self) -> bool {
        self.address.ip().to_canonical().is_loopback()
    }

    /// Where the server is reached from this machine.
    pub(crate) fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }
}

fn taken(settings: &Settings, error: &std::io::Error) -> Failure {
    let admin = settings
        .admin_listen
        .map(|address| format!(" and {address}"))
        .unwrap_or_default();
    let (why, hint) = match error.kind() {
        ErrorKind::AddrInUse => (
            error.to_string(),
            "stop the program that listens there, or choose another address with --listen; port 0 picks a free one",
        ),
        ErrorKind::AddrNotAvailable => (
            "that is no address of this machine".to_owned(),
            "choose one that `ip address` shows, or 0.0.0.0 for all of them",
        ),
        _ => (
            error.to_string(),
            "choose another address with --listen, like 127.0.0.1:4840",
        ),
    };
    Failure::new(
        Code::Address,
        format!("cannot listen on {}{admin}: {why}", settings.listen()),
        hint,
    )
}

/// Serves until SIGTERM, SIGINT or SIGHUP. Calls `when_ready` with the public URL.
pub(crate) async fn serve(
    folder: &Path,
    (authority, operator): (Authority, Operator),
    settings: &Settings,
    prepared: Preparation,
    is_for_this_machine: bool,
    when_ready: impl FnOnce(&str) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let authority = Arc::new(authority);
    let url = prepared.url();
    let options = ServerOptions {
        listen: settings.listen(),
        admin_listen: settings.admin_listen,
        threads: settings.threads.unwrap_or_else(cores),
        tls: prepared.tls,
        trusted_proxies: settings
            .trusted_proxies
            .clone()
            .map_or_else(Vec::new, |proxies| proxies.0),
        mounts: Vec::new(),
        is_for_this_machine,
        lost_log_lines: stderr::begin_queue(),
    };
    let ignores_hang_up = process::ignores_hang_up();
    let signals = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
        signal(SignalKind::hangup()),
    );
    let (Ok(mut terminate), Ok(mut interrupt), Ok(mut hang_up)) = signals else {
        return Err(Failure::new(
            Code::Failed,
            "signals cannot be watched",
            "this is a fault of the operating system",
        ));
    };
    let server = Server::start_on(
        prepared.sockets,
        Arc::clone(&authority),
        Arc::new(SystemRandom),
        &options,
    )
    .map_err(|error| {
        Failure::new(
            Code::Failed,
            format!("the server cannot start: {error}"),
            "look at the limits of this user: ulimit -a",
        )
    })?;
    // A server also works without a door, for instance on a file system without Unix sockets.
    let door = OpenDoor::open(folder, SOCKET, &authority, operator);
    let door = door
        .inspect_err(|failure| tracing::warn!(%failure, "the operator's door is not available"));
    if let Some(path) = &settings.port_file {
        folder::write_private(path, server.address().port().to_string().as_bytes())?;
    }
    when_ready(&authority.options().public_url)?;
    // Last, so that whoever waits for the line finds the files.
    announce(&server, &url, settings.log_format.unwrap_or_default());

    let follower = tokio::spawn({
        let authority = Arc::clone(&authority);
        async move { authority.follow().await }
    });
    let mut rounds = tokio::time::interval(FLUSH_INTERVAL);
    loop {
        tokio::select! {
            _ = rounds.tick() => {
                if let Err(error) = authority.maintain().await {
                    tracing::warn!(%error, "maintenance is put off");
                }
            }
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            // The terminal is gone, or somebody expects that the settings are read again. They are at the next start.
            _ = hang_up.recv(), if !ignores_hang_up => break,
        }
    }
    tracing::info!("stopping: open requests are answered first");
    // Both at the same time, because each may take up to 12 s.
    let closing = door.map(|door| tokio::task::spawn_blocking(move || door.close()));
    let stopping = tokio::task::spawn_blocking(move || server.stop());
    let stopped = async {
        let closed = match closing {
            Ok(closing) => closing.await,
            Err(_) => Ok(()),
        };
        closed.and(stopping.await)
    };
    tokio::select! {
        stopped = stopped => if stopped.is_err() {
            tracing::error!("a part of the server panicked while it stopped");
        },
        _ = interrupt.recv() => {
            tracing::warn!("ended at once, without answers to open requests");
            stderr::finish();
            std::process::exit(130);
        }
    }
    follower.abort();
    // The follower holds the authority until it ends. Dropping the authority closes the store.
    let _ = follower.await;
    if let Err(error) = authority.flush().await {
        tracing::warn!(%error, "the latest uses of tokens were not written");
    }
    drop(authority);
    tracing::info!("stopped");
    Ok(())
}

/// The line that people and scripts wait for, whatever the log's level: as it is, or as one more line of JSON.
fn announce(server: &Server, url: &str, format: LogFormat) {
    let metrics = server
        .admin_address()
        .map(|admin| format!("http://{admin}/metrics"));
    match format {
        LogFormat::Text => {
            stderr::line(&format!("listening on {url}"));
            if let Some(metrics) = metrics {
                stderr::line(&format!("metrics on {metrics}"));
            }
        }
        LogFormat::Json => {
            tracing::info!(target: "countersign::listening", url, "listening on {url}");
            if let Some(metrics) = metrics {
                tracing::info!(target: "countersign::listening", url = metrics, "metrics on {metrics}");
            }
        }
    }
}
