//! The second chapter: an RPC API, a webhook handler and a workflow runner with tokens for a year.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use console::client::{self, CallError, Credential, Retry, RpcClient};
use console::rpc::{ByGithubRepoId, ErrorShape, Source};
use console::webhook::signature::{SIGNATURE_HEADER, sign};
use console::workflow::{self, Outcome};
use console::{api, webhook};
use countersign_client::{CreatedMachine, IssuedToken, NewToken, TokenSource};
use countersign_protocol::secret::Secret;
use countersign_receiver::{Receiver, ReceiverBuilder};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::account::{Account, Broken, ensure};
use crate::authority::Authority;
use crate::services::{POLL, REVOCATION_BOUND, Services, http};

const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// Seeded in the example.
const REPOSITORY: u64 = 1_296_269;
const GITHUB_SECRET: &str = "what GitHub and the webhook handler share";
const LEGACY_SECRET: &str = "what all services have shared so far";

struct Machines {
    authority: Authority,
    trpc: CreatedMachine,
    webhook: CreatedMachine,
    workflow: CreatedMachine,
    webhook_token: IssuedToken,
    workflow_token: IssuedToken,
}

struct Deployment {
    machines: Machines,
    http: reqwest::Client,
    api_url: String,
    migrating_url: String,
    webhook_url: String,
    _services: Services,
}

pub(crate) async fn run(account: &mut Account, program: &Path) -> Result<(), Broken> {
    account.chapter(
        "console",
        "An RPC API. A webhook handler and a workflow runner call it with tokens for a year from their environment.",
    );
    let machines = account
        .step(
            "an authority makes both callers a token for 365 days",
            machines(program),
        )
        .await?;
    let deployment = account
        .step(
            "the API and the webhook handler are up",
            deployment(machines),
        )
        .await?;
    account
        .step(
            "a push of GitHub becomes a job, and the workflow completes it",
            deployment.push(),
        )
        .await?;
    account
        .step(
            "a delivery with a wrong signature gets nowhere",
            deployment.forge(),
        )
        .await?;
    account
        .step(
            "the workflow machine may not do what is the webhook machine's",
            deployment.wrong_machine(),
        )
        .await?;
    account
        .step(
            "the old shared secret works only where the fallback is on, and is counted",
            deployment.legacy(),
        )
        .await?;
    account
        .step(
            "a token for a year that was revoked is refused, and no old secret helps",
            deployment.revoke(),
        )
        .await
}

async fn machines(program: &Path) -> Result<(Machines, String)> {
    let authority = Authority::start(program).await?;
    let trpc = authority.machine("trpc", &[]).await?;
    let calls = [trpc.machine.id];
    let webhook = authority.machine("webhook", &calls).await?;
    let workflow = authority.machine("workflow", &calls).await?;
    let year = NewToken::new().lifetime(YEAR);
    let webhook_token = authority.client_of(&webhook)?.create_token(&year).await?;
    let workflow_token = authority.client_of(&workflow)?.create_token(&year).await?;
    let seen = "CLERK_M2M_TOKEN_WEBHOOK and CLERK_M2M_TOKEN_WORKFLOW would hold them".to_owned();
    let machines = Machines {
        authority,
        trpc,
        webhook,
        workflow,
        webhook_token,
        workflow_token,
    };
    Ok((machines, seen))
}

impl Machines {
    /// What the API knows of the machines.
    fn receiver(&self) -> ReceiverBuilder {
        Receiver::builder(self.trpc.machine.id)
            .authority(&self.authority.url(), self.trpc.key.expose())
            .service("webhook", self.webhook.machine.id)
            .service("workflow", self.workflow.machine.id)
    }
}

fn settings(api_url: &str, credential: Credential) -> client::Settings {
    client::Settings {
        api_url: api_url.to_owned(),
        credential,
        retry: Retry::default(),
    }
}

fn token(issued: &IssuedToken) -> Credential {
    Credential::Token(TokenSource::ready_made(
        issued.string.clone(),
        issued.token.expires_at,
    ))
}

fn legacy(caller: &str) -> Credential {
    Credential::Legacy {
        caller: caller.to_owned(),
        secret: Secret::new(LEGACY_SECRET.to_owned()),
    }
}

async fn deployment(machines: Machines) -> Result<(Deployment, String)> {
    let mut services = Services::default();
    let mut urls = Vec::new();
    for secret in [None, Some(LEGACY_SECRET)] {
        let settings = api::Settings {
            receiver: machines.receiver(),
            legacy_secret: secret.map(|secret| Secret::new(secret.to_owned())),
        };
        let serve = |listener| async move {
            // It ends with the chapter.
            let _ = api::serve(listener, settings, std::future::pending()).await;
        };
        urls.push(services.start(serve).await?);
    }
    let [api_url, migrating_url] = urls.try_into().ok().context("two addresses")?;
    let settings = webhook::Settings {
        api: settings(&api_url, token(&machines.webhook_token)),
        github_secret: Secret::new(GITHUB_SECRET.to_owned()),
    };
    let webhook_url = services
        .start(|listener| async move {
            let _ = webhook::serve(listener, settings, std::future::pending()).await;
        })
        .await?;
    let seen = format!(
        "at {api_url} and {webhook_url}; at {migrating_url} the API as it is during a migration"
    );
    let deployment = Deployment {
        machines,
        http: http()?,
        api_url,
        migrating_url,
        webhook_url,
        _services: services,
    };
    Ok((deployment, seen))
}

/// What the API answers that refuses.
fn refusal<T>(outcome: Result<T, CallError>) -> Result<ErrorShape> {
    match outcome {
        Err(CallError::Refused(error)) => Ok(*error),
        Err(error) => Err(error.into()),
        Ok(_) => bail!("it was not refused"),
    }
}

impl Deployment {
    /// Asks the API as the webhook machine may.
    async fn find(&self, api_url: &str, credential: Credential) -> Result<Source, CallError> {
        let client = RpcClient::new(settings(api_url, credential))?;
        let by_id = ByGithubRepoId {
            github_repo_id: REPOSITORY,
        };
        client.call("sources.findByGithubRepoId", &by_id).await
    }

    async fn deliver(&self, body: &str, signature: String) -> Result<reqwest::Response> {
        let request = self
            .http
            .post(format!("{}/webhooks/github", self.webhook_url))
            .header("x-github-event", "push")
            .header("x-github-delivery", "72d3162e-cc78-11e3-81ab-4c9367dc0958")
            .header(SIGNATURE_HEADER, signature)
            .body(body.to_owned());
        Ok(request.send().await?)
    }

    async fn push(&self) -> Result<((), String)> {
        let commit = "6dcb09b5b57875f334f61aebed695e2e4193db5e";
        let body = json!({ "after": commit, "repository": { "id": REPOSITORY } }).to_string();
        let answer = self
            .deliver(&body, sign(GITHUB_SECRET, body.as_bytes()))
            .await?;
        ensure(
            answer.status() == 201,
            format!("the delivery gave {}", answer.status()),
        )?;
        let credential = token(&self.machines.workflow_token);
        let api = RpcClient::new(settings(&self.api_url, credential))?;
        let Outcome::Completed(job) = workflow::run(&api, REPOSITORY).await? else {
            bail!("the workflow found nothing to do");
        };
        Ok((
            (),
            format!("{} for commit {} is completed", job.id, &commit[..7]),
        ))
    }

    async fn forge(&self) -> Result<((), String)> {
        let body = json!({ "after": "0", "repository": { "id": REPOSITORY } }).to_string();
        let answer = self
            .deliver(&body, sign("a guess", body.as_bytes()))
            .await?;
        ensure(
            answer.status() == 401,
            format!("it gave {}", answer.status()),
        )?;
        Ok(((), format!("401 {}", answer.text().await?)))
    }

    async fn wrong_machine(&self) -> Result<((), String)> {
        let credential = token(&self.machines.workflow_token);
        let refused = refusal(self.find(&self.api_url, credential).await)?;
        let wanted = "This endpoint requires webhook machine token";
        ensure(
            refused.message == wanted,
            format!("it said {}", refused.message),
        )?;
        ensure(
            refused.data.http_status == 403,
            format!("it gave {}", refused.data.http_status),
        )?;
        Ok((
            (),
            format!("403 {}: {wanted}", refused.data.reason.unwrap_or_default()),
        ))
    }

    async fn legacy(&self) -> Result<((), String)> {
        let refused = refusal(self.find(&self.api_url, legacy("webhook")).await)?;
        ensure(
            refused.data.http_status == 401,
            format!("off, it gave {}", refused.data.http_status),
        )?;
        self.find(&self.migrating_url, legacy("webhook")).await?;
        let url = format!("{}/migration", self.migrating_url);
        let uses = self.http.get(url).send().await?.text().await?;
        ensure(
            uses.contains(r#""webhook":1"#),
            format!("it counted {uses}"),
        )?;
        Ok(((), format!("off: 401; on: 200, and {uses}")))
    }

    async fn revoke(&self) -> Result<((), String)> {
        let issued = &self.machines.webhook_token;
        self.find(&self.migrating_url, token(issued)).await?;
        self.machines
            .authority
            .admin
            .revoke_token(issued.token.id, None)
            .await?;
        let revoked = Instant::now();
        let refused = loop {
            match self.find(&self.migrating_url, token(issued)).await {
                Ok(_) => ensure(
                    revoked.elapsed() <= REVOCATION_BOUND,
                    "it was accepted for more than 5 s",
                )?,
                refused => break refusal(refused)?,
            }
            sleep(POLL).await;
        };
        let took = revoked.elapsed().as_secs_f64();
        // The same request with the old secret beside the token: a token that was refused is refused.
        let request = self
            .http
            .post(format!(
                "{}/trpc/sources.findByGithubRepoId",
                self.migrating_url
            ))
            .bearer_auth(issued.string.expose())
            .header(console::rpc::LEGACY_CALLER_HEADER, "webhook")
            .header(console::rpc::LEGACY_SECRET_HEADER, LEGACY_SECRET)
            .json(&json!({ "githubRepoId": REPOSITORY }));
        let status = request.send().await?.status();
        ensure(
            status == 401,
            format!("with the old secret beside it, it gave {status}"),
        )?;
        Ok((
            (),
            format!(
                "{} {took:.1} s after the revocation; the old secret beside it: 401",
                refused.message
            ),
        ))
    }
}
