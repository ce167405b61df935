//! The first chapter: an API for job applications, its users, and two bots.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use countersign_client::{CreatedMachine, NewToken, TokenFormat, TokenSource};
use countersign_receiver::{Receiver, UserIssuer};
use jobtracker::api::{self, JOB_APPLIER};
use jobtracker::bots::{CandidateRepresenter, JobApplier};
use jobtracker::database::Database;
use jobtracker::issuer::{self, Issuer};
use tokio::time::{Instant, sleep};

use crate::account::{Account, Broken, ensure};
use crate::authority::Authority;
use crate::services::{POLL, REVOCATION_BOUND, Seen, Services, http, listener, send, url};

/// The life of the representer's tokens: short, so that the demo sees one end.
const SHORT: Duration = Duration::from_secs(2);
/// How long the authority stays away once calls notice.
const DOWN: Duration = Duration::from_secs(1);
const QUESTION: &str = "What is the status of my application?";

struct Machines {
    authority: Authority,
    api: CreatedMachine,
    representer: CreatedMachine,
    applier: CreatedMachine,
}

struct Deployment {
    machines: Machines,
    issuer: Arc<Issuer>,
    http: reqwest::Client,
    api_url: String,
    _services: Services,
}

pub(crate) async fn run(account: &mut Account, program: &Path) -> Result<(), Broken> {
    account.chapter(
        "jobtracker",
        "An API for job applications. Users call it with JWTs of an OpenID issuer, two bots with M2M tokens.",
    );
    let machines = account
        .step(
            "an authority knows three machines; both bots may call the API",
            machines(program),
        )
        .await?;
    let mut deployment = account
        .step(
            "the API and a small OpenID issuer are up",
            deployment(machines),
        )
        .await?;
    account
        .step(
            "a user reads her own application, and not another's",
            deployment.user(),
        )
        .await?;
    let tokens = deployment.short_tokens().await;
    account
        .step(
            "CandidateRepresenter answers a question, with an opaque token",
            deployment.represent(&tokens),
        )
        .await?;
    account
        .step(
            "JobApplier sends a queued application, with a JWT",
            deployment.apply(),
        )
        .await?;
    account
        .step(
            "a token that has expired is refused, and the bot goes on with a new one",
            deployment.expire(&tokens),
        )
        .await?;
    account
        .step(
            "a token that was revoked is refused, and the bot goes on with a new one",
            deployment.revoke(),
        )
        .await?;
    account
        .step(
            "the wrong machine is refused, and told why",
            deployment.wrong_machine(),
        )
        .await?;
    account
        .step(
            "a machine without a scope is refused; with the scope, a new token passes",
            deployment.add_scope(),
        )
        .await?;
    account
        .step(
            "the authority is killed and started again while calls go on",
            deployment.kill(),
        )
        .await
}

async fn machines(program: &Path) -> Result<(Machines, String)> {
    let authority = Authority::start(program).await?;
    let api = authority.machine("jobtracker", &[]).await?;
    let calls = [api.machine.id];
    let representer = authority.machine("candidate-representer", &calls).await?;
    let applier = authority.machine(JOB_APPLIER, &calls).await?;
    let seen = format!("at {}, with data in a folder of its own", authority.url());
    let machines = Machines {
        authority,
        api,
        representer,
        applier,
    };
    Ok((machines, seen))
}

async fn deployment(machines: Machines) -> Result<(Deployment, String)> {
    let mut services = Services::default();
    let issuer_listener = listener().await?;
    let issuer = Issuer::new(&url(&issuer_listener)?, api::SERVICE).ok();
    let issuer = Arc::new(issuer.context("a signing key for the issuer")?);
    let served = Arc::clone(&issuer);
    services.run(async move {
        // It ends with the chapter.
        let _ = issuer::serve(issuer_listener, served, std::future::pending()).await;
    });
    let receiver = Receiver::builder(machines.api.machine.id)
        .authority(&machines.authority.url(), machines.api.key.expose())
        .user_issuer(UserIssuer::new(issuer.url()).audience(api::SERVICE))
        .service(JOB_APPLIER, machines.applier.machine.id)
        .build()?;
    let database = Database::in_memory()?;
    let api_url = services
        .start(|listener| async move {
            let _ = api::serve(listener, database, receiver, std::future::pending()).await;
        })
        .await?;
    let seen = format!("the API at {api_url}, its page at {api_url}/swagger");
    let deployment = Deployment {
        machines,
        issuer,
        http: http()?,
        api_url,
        _services: services,
    };
    Ok((deployment, seen))
}

impl Deployment {
    async fn get(&self, path: &str, token: &str) -> Result<Seen> {
        send(self.http.get(format!("{}{path}", self.api_url)), token).await
    }

    async fn user(&self) -> Result<((), String)> {
        let token = self.issuer.token("user_ada");
        let own = self.get("/applications/app_1003", &token).await?;
        ensure(own.status == 200, format!("her own gave {}", own.status))?;
        let other = self.get("/applications/app_1004", &token).await?;
        ensure(
            other.status == 404,
            format!("another's gave {}", other.status),
        )?;
        Ok((
            (),
            "200 for app_1003; 404 for app_1004, as if it were not there".to_owned(),
        ))
    }

    /// Tokens of the representer that end soon.
    async fn short_tokens(&self) -> TokenSource {
        let client = self
            .machines
            .authority
            .client_of(&self.machines.representer);
        // The key is good: the authority has just made it.
        let client = client.expect("a key that the authority made can be used");
        TokenSource::builder(client).lifetime(SHORT).build()
    }

    async fn represent(&self, tokens: &TokenSource) -> Result<((), String)> {
        let bot = CandidateRepresenter::new(&self.api_url, tokens.clone()).await?;
        let answer = bot.answer("app_1003", QUESTION).await?;
        Ok(((), format!("“{QUESTION}” “{answer}”")))
    }

    async fn apply(&self) -> Result<((), String)> {
        let client = self.machines.authority.client_of(&self.machines.applier)?;
        let tokens = TokenSource::builder(client)
            .format(TokenFormat::Jwt)
            .build();
        let bot = JobApplier::new(&self.api_url, tokens).await?;
        let sent = bot.apply_to_next().await?.context("nothing was queued")?;
        Ok((
            (),
            format!("{} for {} is {}", sent.id, sent.company, sent.status),
        ))
    }

    async fn expire(&self, tokens: &TokenSource) -> Result<((), String)> {
        let bot = CandidateRepresenter::new(&self.api_url, tokens.clone()).await?;
        let old = tokens.token().await?;
        sleep(SHORT + POLL).await;
        let refused = self.get("/applications/app_1003", old.expose()).await?;
        ensure(
            refused.status == 401,
            format!("the old token gave {}", refused.status),
        )?;
        bot.answer("app_1003", QUESTION).await?;
        ensure(tokens.token().await? != old, "the bot kept the old token")?;
        Ok((
            (),
            format!(
                "the old one: 401 {}; the bot: answered",
                refused.text("reason")
            ),
        ))
    }

    async fn revoke(&self) -> Result<((), String)> {
        let authority = &self.machines.authority;
        let tokens = TokenSource::new(authority.client_of(&self.machines.representer)?);
        let bot = CandidateRepresenter::new(&self.api_url, tokens.clone()).await?;
        bot.answer("app_1003", QUESTION).await?;
        let token = tokens.token().await?;
        let receiver = authority.client_of(&self.machines.api)?;
        let id = receiver.verify_token(token.expose()).await?.id;
        authority
            .admin
            .revoke_token(id, Some("shown in the demo"))
            .await?;
        let revoked = Instant::now();
        while self
            .get("/applications/app_1003", token.expose())
            .await?
            .status
            != 401
        {
            ensure(
                revoked.elapsed() <= REVOCATION_BOUND,
                "it was accepted for more than 5 s",
            )?;
            sleep(POLL).await;
        }
        let took = revoked.elapsed().as_secs_f64();
        bot.answer("app_1003", QUESTION).await?;
        ensure(
            tokens.token().await? != token,
            "the bot kept the revoked token",
        )?;
        Ok((
            (),
            format!("refused {took:.1} s after the revocation (5 s at most); the bot: answered"),
        ))
    }

    async fn wrong_machine(&self) -> Result<((), String)> {
        let client = self
            .machines
            .authority
            .client_of(&self.machines.representer)?;
        let token = TokenSource::new(client).token().await?;
        let request = self
            .http
            .put(format!("{}/applications/app_1002/status", self.api_url))
            .json(&serde_json::json!({ "status": "submitted" }));
        let refused = send(request, token.expose()).await?;
        ensure(refused.status == 403, format!("it gave {}", refused.status))?;
        let (error, message) = (refused.text("reason"), refused.text("message"));
        ensure(error == "wrong_machine", format!("it said {error}"))?;
        Ok(((), format!("403 {error}: {message}")))
    }

    async fn add_scope(&self) -> Result<((), String)> {
        let authority = &self.machines.authority;
        let intern = authority.machine("intern", &[]).await?;
        let client = authority.client_of(&intern)?;
        let before = client.create_token(&NewToken::new()).await?.string;
        let refused = self.get("/applications/app_1003", before.expose()).await?;
        ensure(
            refused.status == 401,
            format!("without the scope it gave {}", refused.status),
        )?;
        authority
            .admin
            .create_scope(intern.machine.id, self.machines.api.machine.id)
            .await?;
        let after = client.create_token(&NewToken::new()).await?.string;
        let passed = self.get("/applications/app_1003", after.expose()).await?;
        ensure(
            passed.status == 200,
            format!("with the scope it gave {}", passed.status),
        )?;
        Ok((
            (),
            format!(
                "before: 401 {}; after: 200, with a token made after the scope",
                refused.text("reason")
            ),
        ))
    }

    /// Calls go on with one opaque token. Nothing but 200 and 503 may be seen, and 200 again after the start.
    async fn kill(&mut self) -> Result<((), String)> {
        let client = self
            .machines
            .authority
            .client_of(&self.machines.representer)?;
        let token = TokenSource::new(client).token().await?;
        let (mut passed, mut delayed) = (0, 0);
        let mut call = async |deployment: &Self| -> Result<bool> {
            let seen = deployment
                .get("/applications/app_1003", token.expose())
                .await?;
            match (seen.status, seen.retry_after) {
                (200, _) => passed += 1,
                (503, Some(_)) => delayed += 1,
                (status, _) => anyhow::bail!("a call gave {status}"),
            }
            sleep(POLL).await;
            Ok(seen.status == 200)
        };
        ensure(call(self).await?, "the first call did not pass")?;
        self.machines.authority.kill()?;
        let killed = Instant::now();
        while call(self).await? {
            ensure(
                killed.elapsed() <= REVOCATION_BOUND + Duration::from_secs(1),
                "calls passed for too long",
            )?;
        }
        let refused = Instant::now();
        while refused.elapsed() < DOWN {
            ensure(!call(self).await?, "a call passed without an authority")?;
        }
        let user = self
            .get("/users/user_ada", &self.issuer.token("user_ada"))
            .await?;
        ensure(
            user.status == 200,
            format!("a user's call gave {}", user.status),
        )?;
        self.machines.authority.restart().await?;
        let started = Instant::now();
        while !call(self).await? {
            ensure(
                started.elapsed() <= Duration::from_secs(10),
                "calls did not pass again",
            )?;
        }
        let took = started.elapsed().as_secs_f64();
        Ok((
            (),
            format!(
                "{passed} calls passed, {delayed} got 503 with Retry-After, users went on; the same token passed again {took:.1} s after the start"
            ),
        ))
    }
}
