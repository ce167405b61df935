//! The procedures: what each is called, whom it accepts, what it does.
//!
//! Each may be called twice with one effect, so that its callers can repeat a call whose answer was lost.

use std::collections::HashMap;

use countersign_receiver::Accept;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::data::Data;
use super::error::RpcError;
use crate::rpc::{ByGithubRepoId, ById, Code, CreateJob, Job, MarkSynced, OpenJob, Source};

/// The service that hears from GitHub.
pub(super) const WEBHOOK: &str = "webhook";
/// The service that does the work.
pub(super) const WORKFLOW: &str = "workflow";

/// From the input as it came to the output, both JSON.
type Run = dyn Fn(&Data, &[u8]) -> Result<Value, RpcError> + Send + Sync;

pub(super) struct Procedure {
    pub(super) accept: Accept,
    pub(super) run: Box<Run>,
}

pub(super) fn table() -> HashMap<&'static str, Procedure> {
    // The legacy check lets nobody in where no secret is configured.
    let webhook = Accept::service(WEBHOOK).or(Accept::legacy());
    let workflow = Accept::service(WORKFLOW).or(Accept::legacy());
    let either = webhook.clone().or(workflow.clone());
    HashMap::from([
        (
            "sources.findByGithubRepoId",
            procedure(&webhook, find_source),
        ),
        ("sources.markSynced", procedure(&workflow, mark_synced)),
        ("jobs.create", procedure(&webhook, create_job)),
        ("jobs.findOpen", procedure(&workflow, find_open_job)),
        ("jobs.complete", procedure(&workflow, complete_job)),
        ("jobs.get", procedure(&either, job)),
    ])
}

fn find_source(data: &Data, input: &ByGithubRepoId) -> Result<Option<Source>, RpcError> {
    Ok(data.source_by_github_repo_id(input.github_repo_id))
}

fn mark_synced(data: &Data, input: &MarkSynced) -> Result<Source, RpcError> {
    let source = data.update_synced_commit(&input.source_id, &input.commit);
    source.ok_or_else(|| not_found("source", &input.source_id))
}

fn create_job(data: &Data, input: &CreateJob) -> Result<Job, RpcError> {
    let job = data.insert_job(&input.source_id, &input.commit, &input.delivery_id);
    job.ok_or_else(|| not_found("source", &input.source_id))
}

fn find_open_job(data: &Data, input: &ByGithubRepoId) -> Result<Option<OpenJob>, RpcError> {
    Ok(data.open_job_by_github_repo_id(input.github_repo_id))
}

fn complete_job(data: &Data, input: &ById) -> Result<Job, RpcError> {
    let job = data.complete_job(&input.id);
    job.ok_or_else(|| not_found("job", &input.id))
}

fn job(data: &Data, input: &ById) -> Result<Job, RpcError> {
    let job = data.job(&input.id);
    job.ok_or_else(|| not_found("job", &input.id))
}

/// Makes a procedure of a function: reads the input, writes the output.
fn procedure<I: DeserializeOwned + 'static, O: Serialize + 'static>(
    accept: &Accept,
    run: fn(&Data, &I) -> Result<O, RpcError>,
) -> Procedure {
    Procedure {
        accept: accept.clone(),
        run: Box::new(move |data, input| {
            let input = serde_json::from_slice(input).map_err(|error| {
                let message = format!("The input cannot be read: {error}");
                RpcError::new(Code::BadRequest, message)
            })?;
            let output = serde_json::to_value(run(data, &input)?);
            Ok(output.expect("what the procedures answer with is JSON"))
        }),
    }
}

fn not_found(what: &str, id: &str) -> RpcError {
    RpcError::new(Code::NotFound, format!("There is no {what} {id}"))
}
