//! The other yardstick: the npm package `oidc-provider` with its in-memory adapter, see `oidc-provider/`.
//!
//! One node process, opaque tokens, the client authenticated in each form. It keeps a thousand
//! tokens in memory, so fewer than that are minted for introspection; our side answers for its whole
//! store. The type hint spares it one look-up, and it serves for some seconds before the first round
//! so that its just-in-time compiler has settled.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::candidate::Http;
use crate::deployment::text_member;
use crate::http::{self, FORM};
use crate::load::{BARE, Bound, Expected, Load};
use crate::process::{SERVER_CORE, Server};
use crate::requests::{Requests, Tokens};

pub const FOLDER: &str = "bench/oidc-provider";
const CLIENT: &str = "client_id=bench&client_secret=bench-secret-of-forty-two-characters-00000";
const TOKENS: u64 = 500;
/// The length of its opaque tokens.
const TOKEN_BYTES: usize = 43;
const SETTLING: Duration = Duration::from_secs(5);
const GRANTED: Expected = Expected {
    status: 200,
    contains: "\"access_token\":\"",
};
const ACTIVE: Expected = Expected {
    status: 200,
    contains: "\"active\":true",
};

pub fn start(work: &Path) -> Result<Server> {
    node("server.mjs", &[], &work.join("oidc-provider")).context("oidc-provider")
}

/// Node's HTTP server, which does nothing but answer `body_bytes`: what oidc-provider stands on.
pub fn start_bare(work: &Path, body_bytes: usize) -> Result<Server> {
    let arguments = ["--body-bytes", &body_bytes.to_string()];
    node("bare.mjs", &arguments, &work.join("bare-node")).context("bare node")
}

fn node(program: &str, arguments: &[&str], folder: &Path) -> Result<Server> {
    let mut command = Command::new("taskset");
    command
        .args(["-c", &SERVER_CORE.to_string(), "node"])
        .arg(format!("{FOLDER}/{program}"))
        .args(arguments)
        .env("NODE_ENV", "production");
    Server::start(command, folder, Duration::from_secs(30))
}

/// Grants of opaque tokens, kept in memory only.
pub fn grants(server: &Server) -> Result<Http<'_>> {
    let body = format!("{CLIENT}&grant_type=client_credentials");
    settle(Http {
        name: "oidc-provider, grant".to_owned(),
        server,
        requests: Requests::in_turn(vec![http::post("/token", None, FORM, &body)]),
        expected: GRANTED,
    })
}

/// Introspections of tokens that were granted just now.
pub fn introspections(server: &Server) -> Result<Http<'_>> {
    let mut tokens = Tokens::default();
    let mut load = Load::connect(server.address(), 1)?;
    let bound = Bound::count(TOKENS);
    load.run(&mut grants(server)?.requests, GRANTED, bound, &mut |body| {
        tokens.push(text_member(body, GRANTED.contains)?)
    })?;
    let requests = Requests::random_token(&Arc::new(tokens), introspection)?;
    settle(Http {
        name: "oidc-provider, introspection".to_owned(),
        server,
        requests,
        expected: ACTIVE,
    })
}

/// Fixed answers to requests as long as those of [`introspections`].
pub fn bare(server: &Server) -> Result<Http<'_>> {
    let request = introspection(&"0".repeat(TOKEN_BYTES));
    settle(Http {
        name: "bare node".to_owned(),
        server,
        requests: Requests::in_turn(vec![request]),
        expected: BARE,
    })
}

fn introspection(token: &str) -> Vec<u8> {
    let body = format!("{CLIENT}&token={token}&token_type_hint=access_token");
    http::post("/token/introspection", None, FORM, &body)
}

fn settle(mut candidate: Http<'_>) -> Result<Http<'_>> {
    let mut load = Load::connect(candidate.server.address(), 8)?;
    let bound = Bound::duration(SETTLING);
    load.run(
        &mut candidate.requests,
        candidate.expected,
        bound,
        &mut |_| Ok(()),
    )?;
    Ok(candidate)
}
