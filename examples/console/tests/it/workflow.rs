//! The two steps, and what happens where one of them is disturbed.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use console::rpc::{ById, CreateJob, Job, JobStatus};
use console::workflow::{self, Outcome};
use countersign_client::TokenFormat;

use crate::support::{REPOSITORY, World, api_of, serve, with_token};

/// An API in front of which something fails.
struct Disturbed {
    url: String,
    /// The procedures that were called, with all attempts.
    calls: Arc<Mutex<Vec<String>>>,
}

/// Whether a call that is disturbed reaches the API before its answer is lost.
#[derive(Clone, Copy)]
enum Loss {
    Request,
    Answer,
}

impl Disturbed {
    /// The first `failures` calls of the workflow fail.
    async fn start(world: &World, failures: usize, loss: Loss) -> Self {
        let receiver = world
            .receiver()
            .service("webhook", world.webhook.machine.id)
            .service("workflow", world.workflow.machine.id);
        let calls = Arc::new(Mutex::new(Vec::new()));
        let left = Arc::new(AtomicUsize::new(failures));
        let log = Arc::clone(&calls);
        let disturb = move |request: Request, next: Next| {
            let (log, left) = (Arc::clone(&log), Arc::clone(&left));
            async move {
                let name = request.uri().path().trim_start_matches("/trpc/").to_owned();
                if name == "jobs.create" || name == "jobs.get" {
                    return next.run(request).await;
                }
                log.lock().unwrap().push(name);
                let is_lost = left
                    .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                        left.checked_sub(1)
                    })
                    .is_ok();
                match (is_lost, loss) {
                    (false, _) => next.run(request).await,
                    (true, Loss::Request) => lost(),
                    (true, Loss::Answer) => {
                        next.run(request).await;
                        lost()
                    }
                }
            }
        };
        let router = api_of(receiver, None).layer(from_fn(disturb));
        Self {
            url: serve(router).await,
            calls,
        }
    }

    fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }

    async fn open_job(&self, world: &World, delivery_id: &str) -> Job {
        let create = CreateJob {
            source_id: "src_1".to_owned(),
            commit: "6dcb09b5b57875f334f61aebed695e2e4193db5e".to_owned(),
            delivery_id: delivery_id.to_owned(),
        };
        let webhook = world.caller(&self.url, &world.webhook).await;
        webhook.call("jobs.create", &create).await.unwrap()
    }

    async fn job(&self, world: &World, id: &str) -> Job {
        let workflow = world.caller(&self.url, &world.workflow).await;
        workflow
            .call("jobs.get", &ById { id: id.to_owned() })
            .await
            .unwrap()
    }
}

/// What a proxy says whose server has gone.
fn lost() -> Response {
    (StatusCode::BAD_GATEWAY, "<html>502</html>").into_response()
}

#[tokio::test]
async fn the_two_steps_complete_the_oldest_job() {
    let world = World::start().await;
    let api = Disturbed::start(&world, 0, Loss::Request).await;
    let (first, second) = (
        api.open_job(&world, "one").await,
        api.open_job(&world, "two").await,
    );
    let workflow = world.caller(&api.url, &world.workflow).await;
    let Outcome::Completed(done) = workflow::run(&workflow, REPOSITORY).await.unwrap() else {
        panic!("a job is open");
    };
    assert_eq!((done.id, done.status), (first.id, JobStatus::Completed));
    assert_eq!(
        api.calls(),
        ["jobs.findOpen", "sources.markSynced", "jobs.complete"]
    );
    assert_eq!(api.job(&world, &second.id).await.status, JobStatus::Open);
    workflow::run(&workflow, REPOSITORY).await.unwrap();
    let third = workflow::run(&workflow, REPOSITORY).await.unwrap();
    assert_eq!(third, Outcome::NothingToDo);
}

#[tokio::test]
async fn a_step_is_repeated_without_harm_whether_its_request_or_its_answer_was_lost() {
    for loss in [Loss::Request, Loss::Answer] {
        let world = World::start().await;
        let api = Disturbed::start(&world, 2, loss).await;
        let job = api.open_job(&world, "one").await;
        let workflow = world.caller(&api.url, &world.workflow).await;
        workflow::run(&workflow, REPOSITORY).await.unwrap();
        assert_eq!(
            api.calls(),
            [
                "jobs.findOpen",
                "jobs.findOpen",
                "jobs.findOpen",
                "sources.markSynced",
                "jobs.complete"
            ]
        );
        assert_eq!(api.job(&world, &job.id).await.status, JobStatus::Completed);
    }
}

#[tokio::test]
async fn a_run_that_gave_up_is_finished_by_the_next_one() {
    let world = World::start().await;
    let api = Disturbed::start(&world, 3, Loss::Answer).await;
    let job = api.open_job(&world, "one").await;
    let workflow = world.caller(&api.url, &world.workflow).await;
    let error = workflow::run(&workflow, REPOSITORY).await.unwrap_err();
    assert!(error.is_temporary(), "{error}");
    assert_eq!(api.job(&world, &job.id).await.status, JobStatus::Open);
    workflow::run(&workflow, REPOSITORY).await.unwrap();
    assert_eq!(api.job(&world, &job.id).await.status, JobStatus::Completed);
}

#[tokio::test]
async fn a_refused_token_is_not_tried_again() {
    let world = World::start().await;
    let api = Disturbed::start(&world, 0, Loss::Request).await;
    let token = world.token(&world.workflow, TokenFormat::Opaque).await;
    world
        .admin
        .revoke_token(token.token.id, None)
        .await
        .unwrap();
    let error = workflow::run(&with_token(&api.url, &token), REPOSITORY)
        .await
        .unwrap_err();
    let text = error.to_string();
    let (what, to_do) = text.split_once(". ").unwrap();
    assert_eq!(
        what,
        "jobs.findOpen: Token verification failed (token_refused)"
    );
    assert!(to_do.contains("Get a new token"), "{text}");
    assert_eq!(api.calls(), ["jobs.findOpen"]);
}
