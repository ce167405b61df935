//! What the log says, in the words of existing deployments, and what it never says.

use std::io::Write;
use std::sync::{Arc, Mutex};

use http::HeaderMap;
use tracing_subscriber::fmt::MakeWriter;

use super::support::{
    ISSUER, ME, SENDER, USER_ISSUER, World, bearer, id, machine_jwt, ok, opaque, refused, secret,
    user_jwt,
};
use crate::remote::Reply;
use crate::{Accept, LegacyCheck, MachineIssuer, UserIssuer};

const SECRET: &str = "an-old-shared-secret";

/// What was logged, as text.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Logs everything of this thread here until the guard is dropped.
    fn begin(&self) -> tracing::subscriber::DefaultGuard {
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_ansi(false)
            .without_time()
            .with_target(false)
            .with_writer(self.clone())
            .finish();
        tracing::subscriber::set_default(subscriber)
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).expect("UTF-8")
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

fn world() -> World {
    World::with(|builder| {
        builder
            .machine_issuer(MachineIssuer::new(ISSUER).trust_scopes_claim())
            .user_issuer(UserIssuer::new(USER_ISSUER).audience("api"))
            .service("webhook", id(SENDER))
            .legacy(LegacyCheck::bearer_secret("cron", &secret(SECRET)))
    })
}

#[tokio::test]
async fn the_log_reads_like_that_of_existing_deployments() {
    let (log, world) = (Log::default(), world());
    let _guard = log.begin();
    let accept = Accept::service("webhook").or(Accept::legacy());
    let _ = world.check(&opaque(1), &accept).await;
    world
        .authority
        .says(Some(refused(404, "resource_not_found")));
    let _ = world.check(&opaque(2), &accept).await;
    let _ = world.check(SECRET, &accept).await;
    let _ = world.check(&opaque(1), &Accept::service("flow")).await;
    let text = log.text();
    let lines: Vec<_> = text.lines().map(str::trim).collect();
    let succeeded = format!(
        r#"DEBUG M2M token verification succeeded subject="{SENDER}" scopes="mch_4otherOTHERotherOTHERotherO {ME}" token.id="mt_f7f0ba8c3b4843ce7d85fcdd5e71853e""#
    );
    assert_eq!(
        lines,
        [
            "DEBUG M2M token verification detected",
            &succeeded,
            "DEBUG M2M token verification detected",
            r#"INFO Token verification failed reason="token_refused""#,
            r#"WARN using legacy auth caller="cron""#,
            "DEBUG M2M token verification detected",
            r#"ERROR M2M not configured: set CLERK_M2M_MACHINE_ID_FLOW service="flow""#,
            r#"INFO M2M not configured reason="not_configured""#,
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn no_token_and_no_secret_is_ever_logged() {
    let (log, world) = (Log::default(), world());
    let _guard = log.begin();
    let accept = Accept::service("webhook")
        .or(Accept::user())
        .or(Accept::legacy());
    let tokens = [
        opaque(1),
        machine_jwt(),
        user_jwt(),
        SECRET.to_owned(),
        format!("{}x", machine_jwt()),
    ];
    let replies = [
        Some(ok(&serde_json::json!({"token": opaque(1)}))),
        Some(refused(404, "resource_not_found")),
        Some(refused(401, "x")),
        Some(refused(429, "x")),
        Some(Reply::Nothing("connection refused".to_owned())),
        None,
    ];
    for reply in replies {
        world.authority.says(reply);
        for token in &tokens {
            let _ = world.check(token, &accept).await;
            let _ = world.receiver.verify(token).await;
            let _ = world
                .receiver
                .check(&bearer(token), &Accept::default())
                .await;
        }
        world.clock.pass(400_000);
        world.machine_keys.fails();
    }
    let _ = world.receiver.check(&HeaderMap::new(), &accept).await;
    let text = log.text();
    assert!(text.lines().count() > 50, "{text}");
    for token in &tokens {
        assert!(!text.contains(token.as_str()));
        // Nor a part that would do.
        let signature = token.rsplit('.').next().expect("a part");
        assert!(!text.contains(signature), "{signature}");
    }
}
