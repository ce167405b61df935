//! A Countersign under measurement: a fresh data folder, machines made over HTTP, tokens minted over HTTP.
//!
//! Several senders share the minting because a machine may hold a million live tokens; all of them
//! may call one receiver, whose key verifies. Nothing is seeded behind the server's back, so what is
//! measured is a store as the product itself filled it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::clock::now;
use crate::http::{self, JSON};
use crate::load::{Bound, Expected, Load};
use crate::process::{SERVER_CORE, Server};
use crate::requests::{Requests, Tokens};

/// Enough for five million stored tokens and every issue measurement after them.
const SENDERS: usize = 16;
const CONNECTIONS: usize = 64;
/// Longer than any benchmark, and an explicit lifetime as real callers send it.
const LIFETIME_SECONDS: u32 = 30 * 24 * 3600;

pub const ISSUED: Expected = Expected {
    status: 201,
    contains: "\"token\":\"",
};
pub const VERIFIED: Expected = Expected {
    status: 200,
    contains: "\"subject\":\"mch_",
};

#[derive(Debug)]
pub struct Deployment {
    server: Server,
    folder: PathBuf,
    sender_keys: Vec<String>,
    receiver_key: String,
    tokens: Arc<Tokens>,
    /// Resident memory before the first token.
    pub empty_bytes: u64,
    /// Issued tokens per second while the store was filled.
    pub seed_rate: f64,
    /// How long the filled store took to be served again.
    pub restart: Duration,
}

impl Deployment {
    /// Sets up `folder` anew, serves it with `program`, and stores `tokens` live tokens.
    ///
    /// `program` is the executable itself or a variant that takes the same `serve` arguments. With
    /// tokens stored, the server is restarted: a store that has been running and one that was just
    /// opened must both be fast, and the opened one has no memory left over from the seeding.
    pub fn start(executable: &Path, program: &Path, folder: &Path, tokens: usize) -> Result<Self> {
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        fs::create_dir_all(folder)?;
        let instance_key = init(executable, folder)?;
        let server = serve(program, folder)?;
        let machine = |name: &str, callees: &[&str]| {
            let body = json!({ "name": name, "scoped_machines": callees }).to_string();
            let request = http::post("/v1/machines", Some(&instance_key), JSON, &body);
            let (status, body) = http::call(server.address(), &request)?;
            let text = String::from_utf8_lossy(&body);
            ensure!((200..300).contains(&status), "no machine: {status} {text}");
            let body: Value = serde_json::from_slice(&body)?;
            anyhow::Ok((member(&body, "id")?, member(&body, "secret_key")?))
        };
        let (receiver, receiver_key) = machine("bench receiver", &[])?;
        let sender_keys = (1..=SENDERS)
            .map(|number| Ok(machine(&format!("bench sender {number}"), &[&receiver])?.1))
            .collect::<Result<Vec<_>>>()?;

        let mut deployment = Self {
            empty_bytes: server.resident_bytes()?,
            server,
            folder: folder.to_owned(),
            sender_keys,
            receiver_key,
            tokens: Arc::default(),
            seed_rate: 0.0,
            restart: Duration::ZERO,
        };
        if tokens > 0 {
            deployment.seed(tokens)?;
            deployment.server.stop()?;
            let start = now();
            deployment.server = serve(program, folder)?;
            deployment.restart = start.elapsed();
        }
        Ok(deployment)
    }

    pub fn server(&self) -> &Server {
        &self.server
    }

    pub fn stored(&self) -> usize {
        self.tokens.len()
    }

    /// Returns the bytes of the data folder on disk.
    pub fn disk_bytes(&self) -> Result<u64> {
        let mut bytes = 0;
        for entry in fs::read_dir(data(&self.folder))? {
            bytes += entry?.metadata()?.len();
        }
        Ok(bytes)
    }

    /// Verifications of random stored tokens by the receiver that they are meant for.
    pub fn verifications(&self) -> Result<Requests> {
        Requests::random_token(&self.tokens, |token| {
            let body = json!({ "token": token }).to_string();
            http::post("/m2m_tokens/verify", Some(&self.receiver_key), JSON, &body)
        })
    }

    /// Mintings of `opaque` or `jwt` tokens by the senders in turn.
    pub fn issues(&self, format: &str) -> Requests {
        let body = json!({ "token_format": format, "seconds_until_expiration": LIFETIME_SECONDS });
        let body = body.to_string();
        let request = |key: &String| http::post("/m2m_tokens", Some(key), JSON, &body);
        Requests::in_turn(self.sender_keys.iter().map(request).collect())
    }

    fn seed(&mut self, count: usize) -> Result<()> {
        eprintln!("  storing {count} tokens over HTTP");
        let mut tokens = Tokens::default();
        let mut load = Load::connect(self.server.address(), CONNECTIONS)?;
        let bound = Bound::count(u64::try_from(count)?);
        let tally = load.run(&mut self.issues("opaque"), ISSUED, bound, &mut |body| {
            tokens.push(text_member(body, ISSUED.contains)?)
        })?;
        ensure!(tokens.len() == count, "seeding ended before its time");
        self.tokens = Arc::new(tokens);
        self.seed_rate = tally.rate();
        Ok(())
    }
}

/// Returns the text that follows `start`, such as `"token":"`, up to the next quote.
pub fn text_member<'a>(body: &'a [u8], start: &str) -> Result<&'a [u8]> {
    let place = memchr::memmem::find(body, start.as_bytes()).context("no such member")?;
    let (_, rest) = body.split_at(place + start.len());
    let end = memchr::memchr(b'"', rest).context("unfinished text")?;
    Ok(rest.split_at(end).0)
}

fn data(folder: &Path) -> PathBuf {
    folder.join("data")
}

fn init(executable: &Path, folder: &Path) -> Result<String> {
    let output = Command::new(executable)
        .args(["init", "--json", "--data"])
        .arg(data(folder))
        .output()
        .with_context(|| format!("cannot run {}", executable.display()))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "init failed: {errors}");
    member(&serde_json::from_slice(&output.stdout)?, "secret_key")
}

/// Serves the folder on the server's core and waits until the server calls itself ready.
fn serve(program: &Path, folder: &Path) -> Result<Server> {
    let data = data(folder);
    let data = data.to_str().context("the work folder is not UTF-8")?;
    let arguments = ["serve", "--data", data, "--listen", "127.0.0.1:0"];
    let patience = Duration::from_secs(300);
    let server = Server::start_pinned(program, folder, &arguments, patience)
        .with_context(|| format!("on core {SERVER_CORE}"))?;
    wait_until_ready(&server, patience)?;
    Ok(server)
}

/// Asks `/readyz` until it answers 200.
pub fn wait_until_ready(server: &Server, patience: Duration) -> Result<()> {
    let start = now();
    while !matches!(
        http::call(server.address(), &http::get("/readyz")),
        Ok((200, _))
    ) {
        ensure!(start.elapsed() < patience, "not ready after {patience:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn member(value: &Value, name: &str) -> Result<String> {
    let text = value.get(name).and_then(Value::as_str);
    Ok(text
        .with_context(|| format!("no {name} in the answer"))?
        .to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_is_read_between_its_quotes() {
        let body = br#"{"id":"mt_1","token":"mt_abc","x":1}"#;
        assert_eq!(text_member(body, ISSUED.contains).unwrap(), b"mt_abc");
        assert!(text_member(b"{}", ISSUED.contains).is_err());
    }
}
