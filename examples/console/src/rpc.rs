//! What the API and its callers say to each other: RPC over HTTP in the style of tRPC.
//!
//! `POST /trpc/<procedure>` with the input as JSON. The answer is `{"result":{"data":…}}` or `{"error":{…}}`, and the HTTP status
//! says the same as the error's code.

use serde::{Deserialize, Serialize};

/// The header of the shared secret from before there were tokens.
pub const LEGACY_SECRET_HEADER: &str = "x-internal-secret";
/// The header in which its sender says who it is. It is counted and never believed.
pub const LEGACY_CALLER_HEADER: &str = "x-internal-caller";

/// A repository that the console knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Source {
    pub id: String,
    /// Stays when the repository is renamed.
    pub github_repo_id: u64,
    pub full_name: String,
    /// The commit up to which its content was fetched.
    pub synced_commit: Option<String>,
}

/// Work that a push has caused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Job {
    pub id: String,
    pub source_id: String,
    pub commit: String,
    pub status: JobStatus,
}

/// How far a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobStatus {
    Open,
    Completed,
}

/// A job with the source that it is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OpenJob {
    pub job: Job,
    pub source: Source,
}

/// The input of `sources.findByGithubRepoId` and `jobs.findOpen`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ByGithubRepoId {
    pub github_repo_id: u64,
}

/// The input of `sources.markSynced`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MarkSynced {
    pub source_id: String,
    pub commit: String,
}

/// The input of `jobs.create`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreateJob {
    pub source_id: String,
    pub commit: String,
    /// What caused the job. Asked again with the same one, the API answers with the job that is there.
    pub delivery_id: String,
}

/// The input of `jobs.get` and `jobs.complete`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ById {
    pub id: String,
}

/// What an error says, for programs by its code and for people by its message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorShape {
    pub message: String,
    /// The number that JSON-RPC 2.0 wants.
    pub code: i32,
    pub data: ErrorData,
}

/// The part of an error that programs read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ErrorData {
    pub code: Code,
    pub http_status: u16,
    /// The procedure.
    pub path: String,
    /// Why a caller was refused, from the receiver's fixed set, such as `token_refused` or `wrong_machine`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What a refused caller can do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// The codes of tRPC, those that this API uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Code {
    BadRequest,
    Unauthorized,
    Forbidden,
    NotFound,
    PayloadTooLarge,
    ServiceUnavailable,
    InternalServerError,
}

impl Code {
    /// The number that tRPC gives to the code.
    #[must_use]
    pub fn number(self) -> i32 {
        match self {
            Self::BadRequest => -32600,
            Self::Unauthorized => -32001,
            Self::Forbidden => -32003,
            Self::NotFound => -32004,
            Self::PayloadTooLarge => -32013,
            Self::ServiceUnavailable | Self::InternalServerError => -32603,
        }
    }
}

/// The answer where all went well.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Success<T> {
    pub result: Data<T>,
}

/// What [`Success`] holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Data<T> {
    pub data: T,
}

/// The answer where something went wrong.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Failure {
    pub error: ErrorShape,
}
