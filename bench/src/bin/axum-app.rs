//! A service as people write it with axum, with the receiver's layer before its one route or without.
//!
//! One `current_thread` runtime, because the measurement gives it one core. Both ways everything but the layer is the
//! same: requests carry a token, and only the layer looks at it.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, Result};
use axum::serve::ListenerExt;
use axum::{Json, Router, routing::get};
use clap::Parser;
use countersign_receiver::{Accept, MachineId, Receiver};
use serde::Serialize;
use tokio::net::TcpListener;
use tracing_subscriber::EnvFilter;

#[derive(Parser)]
struct Arguments {
    /// Lets in only machines that may call this one.
    #[arg(long, requires_all = ["authority", "machine_id", "machine_key"])]
    layer: bool,
    /// The authority that is asked about tokens.
    #[arg(long, value_name = "URL")]
    authority: Option<String>,
    /// The machine that this service is.
    #[arg(long)]
    machine_id: Option<MachineId>,
    #[arg(long)]
    machine_key: Option<String>,
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Receives the bare port number once the server listens.
    #[arg(long)]
    port_file: Option<PathBuf>,
}

#[derive(Serialize)]
struct Job {
    id: u64,
    title: &'static str,
    is_open: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    // The level at which services run: each check asks whether its messages are wanted.
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new("info"))
        .with_writer(std::io::stderr)
        .init();
    let mut app = Router::new().route("/jobs/7", get(job));
    if let Arguments {
        layer: true,
        authority: Some(authority),
        machine_id: Some(machine_id),
        machine_key: Some(machine_key),
        ..
    } = &arguments
    {
        let receiver = Receiver::builder(*machine_id)
            .authority(authority, machine_key)
            .build()?;
        app = app.layer(receiver.layer(Accept::any_machine()));
    }
    let listener = TcpListener::bind(arguments.listen)
        .await
        .with_context(|| format!("cannot listen on {}", arguments.listen))?;
    if let Some(file) = &arguments.port_file {
        let port = listener.local_addr()?.port();
        std::fs::write(file, port.to_string()).context("cannot write the port file")?;
    }
    let listener = listener.tap_io(|stream| {
        // A connection that is gone already is found out when it is read.
        let _ = stream.set_nodelay(true);
    });
    Ok(axum::serve(listener, app).await?)
}

async fn job() -> Json<Job> {
    Json(Job {
        id: 7,
        title: "carpenter",
        is_open: true,
    })
}
