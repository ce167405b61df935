//! The yardstick: what an HTTP/1.1 answer costs before any work is done for it.
//!
//! Reads each request body to its end and answers 200 with a fixed JSON body. One `current_thread`
//! runtime per thread, each with its own listener on the same port (SO_REUSEPORT): the cheapest
//! arrangement of hyper and tokio that we know, and the one that the product uses. It parses
//! nothing, checks nothing and keeps nothing; leave it so, or the ratios lose their meaning.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::thread;

use anyhow::{Context, Result};
use bytes::Bytes;
use clap::Parser;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use socket2::{Domain, Socket, Type};

#[derive(Parser)]
struct Arguments {
    #[arg(long, default_value_t = 1)]
    threads: usize,
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Receives the bare port number once the server listens.
    #[arg(long)]
    port_file: Option<PathBuf>,
    #[arg(long, default_value_t = 400)]
    body_bytes: usize,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let body = fixed_body(arguments.body_bytes);

    let first = listen(arguments.listen)?;
    let address = first.local_addr()?;
    let mut listeners = vec![first];
    for _ in 1..arguments.threads {
        listeners.push(listen(address)?);
    }
    eprintln!("listening on http://{address}");
    if let Some(file) = &arguments.port_file {
        std::fs::write(file, address.port().to_string()).context("cannot write the port file")?;
    }

    let threads: Vec<_> = listeners
        .into_iter()
        .map(|listener| {
            let body = body.clone();
            thread::spawn(move || serve(listener, &body))
        })
        .collect();
    for thread in threads {
        thread.join().expect("a serving thread does not panic")?;
    }
    Ok(())
}

/// Makes one JSON string that is `size` bytes long with its quotes.
fn fixed_body(size: usize) -> Bytes {
    Bytes::from(format!("\"{}\"", "x".repeat(size.saturating_sub(2))))
}

fn listen(address: SocketAddr) -> Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket
        .bind(&address.into())
        .with_context(|| format!("cannot listen on {address}"))?;
    socket.listen(1024)?;
    Ok(socket.into())
}

fn serve(listener: TcpListener, body: &Bytes) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let body = body.clone();
            let service = service_fn(move |request| answer(request, body.clone()));
            tokio::task::spawn_local(async move {
                // A client that hangs up is not the yardstick's business.
                let _ = http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    })
}

async fn answer(
    request: Request<Incoming>,
    body: Bytes,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let received = request.into_body().collect().await;
    let mut response = Response::new(Full::new(body));
    if received.is_err() {
        *response.status_mut() = StatusCode::BAD_REQUEST;
    }
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}
