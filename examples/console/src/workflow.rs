//! The workflow runner: takes an open job of a repository and completes it, in two steps.
//!
//! Each step may be repeated without harm, by the client where a call failed for the moment, and by running the workflow again where
//! it ended in between: the job then is still open, or completed already.

use crate::client::{CallError, RpcClient};
use crate::rpc::{ByGithubRepoId, ById, Job, MarkSynced, OpenJob, Source};

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// No job of the repository is open.
    NothingToDo,
    /// This job is done.
    Completed(Job),
}

/// Completes the oldest open job of a repository.
///
/// # Errors
/// Why a step failed, after its repetitions.
pub async fn run(api: &RpcClient, github_repo_id: u64) -> Result<Outcome, CallError> {
    let Some(open) = fetch_source(api, github_repo_id).await? else {
        tracing::info!(github_repo_id, "no job is open");
        return Ok(Outcome::NothingToDo);
    };
    let job = complete_job(api, open).await?;
    Ok(Outcome::Completed(job))
}

/// Step 1: which job is open, and what is it about?
async fn fetch_source(api: &RpcClient, github_repo_id: u64) -> Result<Option<OpenJob>, CallError> {
    let by_id = ByGithubRepoId { github_repo_id };
    let open: Option<OpenJob> = api.call("jobs.findOpen", &by_id).await?;
    if let Some(OpenJob { job, source }) = &open {
        tracing::info!(job.id, source = source.full_name, "step 1: source fetched");
    }
    Ok(open)
}

/// Step 2: the work is done. The source says so first: if the run ends in between, the job is open and the step comes again.
async fn complete_job(api: &RpcClient, open: OpenJob) -> Result<Job, CallError> {
    let synced = MarkSynced {
        source_id: open.source.id,
        commit: open.job.commit,
    };
    let _: Source = api.call("sources.markSynced", &synced).await?;
    let id = open.job.id;
    let job: Job = api.call("jobs.complete", &ById { id }).await?;
    tracing::info!(job.id, "step 2: job completed");
    Ok(job)
}
