//! A Countersign under measurement: a fresh data folder, machines made over HTTP, tokens minted over HTTP.
//!
//! Several senders share the minting because a machine may hold a million live tokens; all of them
//! may call one receiver, whose key verifies. Nothing is seeded behind the server's back, so what is
//! measured is a store as the product itself filled it. A measurement begins when the restarted server has
//! its index in memory as full as it gets.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::clock::now;
use crate::http::{self, JSON};
use crate::load::{Bound, Expected, Load, Tally};
use crate::metrics::{IndexState, wait_until_filled};
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
    receiver_id: String,
    receiver_key: String,
    tokens: Arc<Tokens>,
    /// A bound of the index other than the default.
    index_mib: Option<u32>,
    /// Resident memory before the first token.
    pub empty_bytes: u64,
    /// Issued tokens per second while the store was filled.
    pub seed_rate: f64,
    /// How long the filled store took to be served again.
    pub restart: Duration,
    /// How long its index then took to fill.
    pub index_fill: Duration,
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
        let server = serve(program, folder, None)?;
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
            receiver_id: receiver,
            receiver_key,
            tokens: Arc::default(),
            index_mib: None,
            seed_rate: 0.0,
            restart: Duration::ZERO,
            index_fill: Duration::ZERO,
        };
        if tokens > 0 {
            deployment.seed(tokens)?;
            deployment.restart(program)?;
        }
        Ok(deployment)
    }

    /// Copies the data to `folder` and serves both, the copy with another bound of its index.
    pub fn with_copy(
        mut self,
        program: &Path,
        folder: &Path,
        index_mib: u32,
    ) -> Result<(Self, Self)> {
        self.stop()?;
        copy(&self.data(), &data(folder))?;
        let mut copy = Self {
            server: serve(program, folder, Some(index_mib))?,
            folder: folder.to_owned(),
            sender_keys: self.sender_keys.clone(),
            receiver_id: self.receiver_id.clone(),
            receiver_key: self.receiver_key.clone(),
            tokens: Arc::clone(&self.tokens),
            index_mib: Some(index_mib),
            ..self
        };
        copy.restart(program)?;
        self.restart(program)?;
        Ok((self, copy))
    }

    /// Starts the server, afresh if it runs, and waits until its index is as full as it gets.
    pub fn restart(&mut self, program: &Path) -> Result<()> {
        self.stop()?;
        let start = now();
        self.server = serve(program, &self.folder, self.index_mib)?;
        self.restart = start.elapsed();
        let tokens = || Ok(self.index_state()?.tokens);
        self.index_fill = wait_until_filled(self.stored(), tokens)?;
        let in_memory = self.index_state()?.tokens;
        eprintln!("  {}, {in_memory} of them in memory", self.label());
        Ok(())
    }

    /// Ends the server, so that the data folder is free for somebody else.
    pub fn stop(&mut self) -> Result<()> {
        self.server.stop()
    }

    pub fn data(&self) -> PathBuf {
        data(&self.folder)
    }

    /// Returns the address that senders and receivers are given, which is also the issuer of JWTs.
    pub fn url(&self) -> String {
        format!("http://{}", self.server.address())
    }

    pub fn sender_keys(&self) -> &[String] {
        &self.sender_keys
    }

    pub fn receiver_id(&self) -> &str {
        &self.receiver_id
    }

    pub fn receiver_key(&self) -> &str {
        &self.receiver_key
    }

    pub fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    pub fn server(&self) -> &Server {
        &self.server
    }

    pub fn stored(&self) -> usize {
        self.tokens.len()
    }

    /// Names the deployment by what tells it from others.
    pub fn label(&self) -> String {
        let bound = self.index_mib.map(|mib| format!(", index up to {mib} MiB"));
        format!("{} stored{}", self.stored(), bound.unwrap_or_default())
    }

    pub fn index_state(&self) -> Result<IndexState> {
        IndexState::read(self.server.address())
    }

    /// Returns the bytes of the data folder on disk.
    pub fn disk_bytes(&self) -> Result<u64> {
        let mut bytes = 0;
        for entry in fs::read_dir(self.data())? {
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

    /// Requests for a page of the receiver's own, each with a random stored token.
    pub fn calls_of_receiver(&self, path: &str) -> Result<Requests> {
        Requests::random_token(&self.tokens, |token| http::get(path, Some(token)))
    }

    /// Mints JWTs, each different from all others.
    pub fn mint_jwts(&self, count: usize) -> Result<Vec<String>> {
        let mut jwts = Vec::new();
        self.mint("jwt", count, |jwt| {
            jwts.push(std::str::from_utf8(jwt)?.to_owned());
            Ok(())
        })?;
        Ok(jwts)
    }

    fn seed(&mut self, count: usize) -> Result<()> {
        eprintln!("  storing {count} tokens over HTTP");
        let mut tokens = Tokens::default();
        let tally = self.mint("opaque", count, |token| tokens.push(token))?;
        ensure!(tokens.len() == count, "seeding ended before its time");
        self.tokens = Arc::new(tokens);
        self.seed_rate = tally.rate();
        Ok(())
    }

    fn mint(
        &self,
        format: &str,
        count: usize,
        mut keep: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<Tally> {
        let mut load = Load::connect(self.server.address(), CONNECTIONS)?;
        let bound = Bound::count(u64::try_from(count)?);
        load.run(&mut self.issues(format), ISSUED, bound, &mut |body| {
            keep(text_member(body, ISSUED.contains)?)
        })
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

/// Copies a data folder, file by file, with the files' modes.
fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}

/// Serves the folder on the server's core and waits until the server calls itself ready.
fn serve(program: &Path, folder: &Path, index_mib: Option<u32>) -> Result<Server> {
    let data = data(folder);
    let data = data.to_str().context("the work folder is not UTF-8")?;
    let mut arguments = vec!["serve", "--data", data, "--listen", "127.0.0.1:0"];
    let mib = index_mib.map(|mib| mib.to_string());
    if let Some(mib) = &mib {
        arguments.extend(["--token-index-mib", mib]);
    }
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
        http::call(server.address(), &http::get("/readyz", None)),
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
