//! What a check costs on the side that is called, beside what it cannot do without.
//!
//! In process, on one thread and by that thread's processor time: a remembered opaque token against SHA-256 and a look-up,
//! a JWT against its bare signature. Over HTTP: an axum app with the layer against the same app without. Tokens, JWTs and
//! keys are those of a real authority, which answers the receiver's questions. What a cold source of tokens asks of the
//! authority when many want one at once is counted here too, because it is the other end of the same calls.

use std::collections::{HashMap, HashSet};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rsa::PublicKeyComponents;
use aws_lc_rs::signature::{ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_client::{Client, TokenSource};
use countersign_receiver::{Accept, MachineIssuer, Receiver};
use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;
use serde_json::Value;
use tokio::runtime::Builder;
use tokio::sync::Barrier;

use crate::candidate::Http;
use crate::clock::now;
use crate::comparisons::Bench;
use crate::deployment::Deployment;
use crate::http;
use crate::in_process::{CALLS_PER_MILLISECOND, Part};
use crate::load::Expected;
use crate::metrics;
use crate::process::Server;
use crate::report::{Check, Section, Table, Target};

/// Opaque tokens in use at one receiver at a time.
const TOKENS: usize = 100;
/// JWTs that each round meets for the first time.
const JWTS: usize = 500;
/// Rounds in process are short, so there are enough of them for a median in any case.
const MIN_ROUNDS: usize = 5;
/// The receiver forgets what it learnt of an opaque token after 4 to 5 s.
const REMEMBERED: Duration = Duration::from_secs(4);
/// Calls that want a token at once from a source that has none.
const CALLS_AT_ONCE: usize = 1_000;

/// The route of the axum app, and what it answers.
const PATH: &str = "/jobs/7";
const JOB: Expected = Expected {
    status: 200,
    contains: "\"title\":\"carpenter\"",
};

/// A token and the headers that present it.
struct Sample {
    token: String,
    headers: HeaderMap,
}

/// A JWT as the crypto library wants it.
struct Signed<'a> {
    input: &'a str,
    signature: Vec<u8>,
}

/// The least that a memory of tokens must do.
struct Floor(HashMap<[u8; 32], u64>);

#[derive(Default)]
struct Costs {
    opaque_floor: Part,
    opaque: Part,
    signature: Part,
    jwt_first: Part,
    jwt_floor: Part,
    jwt_again: Part,
}

/// Measures checks in process, and counts what a cold source of tokens asks for.
pub fn checks(bench: &Bench) -> Result<Section> {
    let deployment = bench.deployment("receiver", TOKENS)?;
    let most_mints = most_mints(&deployment)?;
    let rounds = bench.plan.rounds.max(MIN_ROUNDS);
    let calls = usize::try_from(bench.plan.window.as_millis() * CALLS_PER_MILLISECOND)?;
    let jwts = deployment.mint_jwts(JWTS + 1)?;
    let length = jwts.first().map_or(0, String::len);
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let costs = runtime.block_on(measure(&deployment, jwts, rounds, calls))?;

    let rows = [
        ("SHA-256 and look-up, opaque token", &costs.opaque_floor),
        ("check, opaque token met again", &costs.opaque),
        ("bare RS256 verification", &costs.signature),
        ("check, JWT met for the first time", &costs.jwt_first),
        ("SHA-256 and look-up, JWT", &costs.jwt_floor),
        ("check, JWT met again", &costs.jwt_again),
    ];
    let at_most = |what, measured, bound| Check {
        what,
        measured,
        target: Target::AtMost(bound),
        goal: None,
    };
    let over = |part: &Part, other: &Part| part.median() / other.median();
    Ok(Section {
        title: "A receiver's check, in process",
        lead: format!(
            "On one thread and without HTTP: {rounds} rounds of {calls} calls, with {TOKENS} opaque tokens in turn, and of \
             {JWTS} JWTs of {length} bytes that the receiver had not met. Digest and look-up are those of the crypto library \
             and of the standard library's map; the bare verification has its key parsed and its signature decoded. \
             Then {CALLS_AT_ONCE} calls at once of each of {} sources of tokens that had none.",
            deployment.sender_keys().len(),
        ),
        tables: vec![Table {
            headers: vec!["what", "processor ns", "in all rounds"],
            rows: rows
                .into_iter()
                .map(|(name, part)| {
                    let [figure, spread] = part.cells();
                    vec![name.to_owned(), figure, spread]
                })
                .collect(),
        }],
        checks: vec![
            at_most(
                "opaque token met again ÷ SHA-256 and look-up",
                over(&costs.opaque, &costs.opaque_floor),
                3.0,
            ),
            at_most(
                "JWT met for the first time ÷ bare RS256",
                over(&costs.jwt_first, &costs.signature),
                1.2,
            ),
            at_most(
                "JWT met again ÷ opaque token met again",
                over(&costs.jwt_again, &costs.opaque),
                1.0,
            ),
            at_most(
                "most mints for 1,000 calls of a cold source",
                most_mints as f64,
                1.0,
            ),
        ],
    })
}

/// Measures an axum app with the layer and without.
pub fn layer(bench: &Bench) -> Result<Section> {
    let deployment = bench.deployment("layer", TOKENS)?;
    let app = |name, arguments: &[&str]| {
        let program = bench.programs.join("axum-app");
        let patience = Duration::from_secs(10);
        Server::start_pinned(&program, &bench.work.join(name), arguments, patience)
    };
    let without = app("axum-without-layer", &[])?;
    let with = app(
        "axum-with-layer",
        &[
            "--layer",
            "--authority",
            &deployment.url(),
            "--machine-id",
            deployment.receiver_id(),
            "--machine-key",
            deployment.receiver_key(),
        ],
    )?;
    let (status, _) = http::call(with.address(), &http::get(PATH, None))?;
    ensure!(
        status == 401,
        "the layer let a request without a token pass"
    );

    let candidate = |name: &str, server| {
        anyhow::Ok(Http {
            name: name.to_owned(),
            server,
            requests: deployment.calls_of_receiver(PATH)?,
            expected: JOB,
        })
    };
    let mut with = candidate("axum with the layer", &with)?;
    let mut without = candidate("axum without", &without)?;
    let before = metrics::verifications(deployment.server().address())?;
    let figures = bench.compare(&mut [&mut with, &mut without])?;
    let questions = metrics::verifications(deployment.server().address())? - before;
    let [with, without] = figures.as_slice() else {
        bail!("not two candidates were compared");
    };
    let (with, without) = (&with.median, &without.median);
    let at_least_nine_tenths = |what, measured| Check {
        what,
        measured,
        target: Target::AtLeast(0.9),
        goal: None,
    };
    Ok(Section {
        title: "An axum app with the receiver's layer",
        lead: format!(
            "A route that answers with a small JSON; each request presents one of {TOKENS} opaque tokens at random. With the \
             layer the app asked the authority {questions} times in all rounds, and the authority answered on the same core. Answers \
             per second depend on who else uses the machine, processor time hardly does."
        ),
        tables: vec![Table::of_figures(&figures)],
        checks: vec![
            at_least_nine_tenths(
                "answers/s with the layer ÷ without",
                with.rate / without.rate,
            ),
            at_least_nine_tenths(
                "the same by processor time",
                without.processor / with.processor,
            ),
        ],
    })
}

async fn measure(
    deployment: &Deployment,
    jwts: Vec<String>,
    rounds: usize,
    calls: usize,
) -> Result<Costs> {
    let tokens = deployment.tokens();
    let opaque: Vec<_> = (0..tokens.len())
        .map(|index| Sample::new(std::str::from_utf8(tokens.at(index))?.to_owned()))
        .collect::<Result<_>>()?;
    let mut jwts: Vec<_> = jwts.into_iter().map(Sample::new).collect::<Result<_>>()?;
    let forerunner = jwts.pop().context("no JWT was minted")?;
    let signed: Vec<_> = jwts.iter().map(Signed::of).collect::<Result<_>>()?;
    let public = public_key(deployment, &forerunner.token)?;
    let (opaque_floor, jwt_floor) = (Floor::of(&opaque), Floor::of(&jwts));
    let opaque_calls: Vec<_> = opaque.iter().cycle().take(calls).collect();
    let jwt_calls: Vec<_> = jwts.iter().cycle().take(calls).collect();
    let accept = Accept::any_machine();

    let mut costs = Costs::default();
    for _ in 0..rounds {
        // A new receiver remembers nothing; the forerunner brings it the issuer's keys.
        let receiver = receiver(deployment)?;
        let check = async |sample: &Sample| {
            black_box(receiver.check(&sample.headers, &accept).await?);
            anyhow::Ok(())
        };
        check(&forerunner).await?;
        let met = now();
        for sample in &opaque {
            check(sample).await?;
        }
        costs
            .opaque_floor
            .round(&opaque_calls, async |sample| opaque_floor.find(sample))
            .await?;
        costs
            .opaque
            .round(&opaque_calls, async |sample| check(sample).await)
            .await?;
        ensure!(
            met.elapsed() < REMEMBERED,
            "the round took so long that the receiver had to ask again; the machine is too busy"
        );
        costs
            .signature
            .round(&signed, async |jwt| {
                let verified = public.verify_sig(jwt.input.as_bytes(), &jwt.signature);
                verified.ok().context("a signature is not good")
            })
            .await?;
        costs
            .jwt_first
            .round(&jwts, async |sample| check(sample).await)
            .await?;
        costs
            .jwt_floor
            .round(&jwt_calls, async |sample| jwt_floor.find(sample))
            .await?;
        costs
            .jwt_again
            .round(&jwt_calls, async |sample| check(sample).await)
            .await?;
    }
    Ok(costs)
}

fn receiver(deployment: &Deployment) -> Result<Receiver> {
    let url = deployment.url();
    let receiver = Receiver::builder(deployment.receiver_id().parse()?)
        .authority(&url, deployment.receiver_key())
        .machine_issuer(MachineIssuer::new(&url).trust_scopes_claim());
    Ok(receiver.build()?)
}

/// Fetches the key that a JWT names.
fn public_key(deployment: &Deployment, jwt: &str) -> Result<ParsedPublicKey> {
    let (header, _) = jwt.split_once('.').context("a JWT has three parts")?;
    let header: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header)?)?;
    let request = http::get("/.well-known/jwks.json", None);
    let (status, body) = http::call(deployment.server().address(), &request)?;
    ensure!(status == 200, "no keys: {status}");
    let body: Value = serde_json::from_slice(&body)?;
    let keys = body.get("keys").and_then(Value::as_array);
    let key = keys.and_then(|keys| keys.iter().find(|key| key.get("kid") == header.get("kid")));
    let key = key.context("the JWT's key is not among those published")?;
    let number = |name| {
        let text = key.get(name).and_then(Value::as_str);
        anyhow::Ok(URL_SAFE_NO_PAD.decode(text.context("not an RSA key")?)?)
    };
    PublicKeyComponents {
        n: number("n")?,
        e: number("e")?,
    }
    .to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256)
    .ok()
    .context("the key cannot be used")
}

/// Counts the tokens that the authority hands out while many calls want one at once, for several cold sources one after
/// the other. Returns the most that any of them took.
fn most_mints(deployment: &Deployment) -> Result<u64> {
    let runtime = Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build()?;
    let address = deployment.server().address();
    let mut most = 0;
    for key in deployment.sender_keys() {
        let source = TokenSource::new(Client::new(&deployment.url(), key)?);
        let before = metrics::issued_tokens(address)?;
        let different = runtime.block_on(tokens_at_once(&source))?;
        ensure!(different == 1, "the calls got {different} different tokens");
        let mints = metrics::issued_tokens(address)? - before;
        ensure!(mints > 0, "the authority did not count the token it made");
        most = most.max(mints);
    }
    Ok(most)
}

/// Asks for a token so many times at once, and returns how many different ones there were.
async fn tokens_at_once(source: &TokenSource) -> Result<usize> {
    let barrier = Arc::new(Barrier::new(CALLS_AT_ONCE));
    let calls: Vec<_> = (0..CALLS_AT_ONCE)
        .map(|_| {
            let (source, barrier) = (source.clone(), Arc::clone(&barrier));
            tokio::spawn(async move {
                barrier.wait().await;
                source.token().await
            })
        })
        .collect();
    let mut different = HashSet::new();
    for call in calls {
        different.insert(call.await??.expose().to_owned());
    }
    Ok(different.len())
}

impl Sample {
    fn new(token: String) -> Result<Self> {
        let value = format!("Bearer {token}").parse()?;
        let headers = HeaderMap::from_iter([(AUTHORIZATION, value)]);
        Ok(Self { token, headers })
    }
}

impl<'a> Signed<'a> {
    fn of(jwt: &'a Sample) -> Result<Self> {
        let (input, signature) = jwt.token.rsplit_once('.').context("no signature")?;
        let signature = URL_SAFE_NO_PAD.decode(signature)?;
        Ok(Self { input, signature })
    }
}

impl Floor {
    fn of(samples: &[Sample]) -> Self {
        let numbered = samples.iter().zip(0..);
        Self(
            numbered
                .map(|(sample, number)| (key_of(&sample.token), number))
                .collect(),
        )
    }

    fn find(&self, sample: &Sample) -> Result<()> {
        let found = self.0.get(&key_of(black_box(&sample.token)));
        black_box(found).context("a token is not in the map")?;
        Ok(())
    }
}

fn key_of(token: &str) -> [u8; 32] {
    let mut key = [0; 32];
    key.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    key
}
