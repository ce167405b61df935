//! The API: what users and machines may ask, and whom each route lets in.
//!
//! Each route names its callers where it is declared, and the receiver's layer sees to it before any of the code below runs. What is
//! left to the handlers is what only they can know: a user sees nothing but what is theirs, and it looks as if the rest were not
//! there.

use std::io;

use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE, HeaderName};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use countersign_receiver::{Accept, Caller, Receiver};
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpListener;

use crate::database::{Application, Database, DatabaseError, Resume, User};
use crate::openapi;
use crate::status::Status;

/// The name of this service in the environment: `CLERK_M2M_MACHINE_ID_JOBTRACKER` and so on.
pub const SERVICE: &str = "jobtracker";
/// The name of the machine that sends applications: `CLERK_M2M_MACHINE_ID_JOB_APPLIER` is its id.
pub const JOB_APPLIER: &str = "job-applier";

/// Serves the API until `shutdown` is there.
///
/// # Errors
/// Where the listener fails.
pub async fn serve(
    listener: TcpListener,
    database: Database,
    receiver: Receiver,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    axum::serve(listener, router(database, &receiver))
        .with_graceful_shutdown(shutdown)
        .await
}

/// The routes, and whom they let in.
pub fn router(database: Database, receiver: &Receiver) -> Router {
    let everybody = receiver.layer(Accept::user().or(Accept::any_machine()));
    let users_and_job_applier = receiver.layer(Accept::user().or(Accept::service(JOB_APPLIER)));
    let job_applier = receiver.layer(Accept::service(JOB_APPLIER));
    Router::new()
        .route(
            "/applications/{id}",
            get(application).layer(everybody.clone()),
        )
        .route(
            "/applications/{id}/resume",
            get(resume).layer(everybody.clone()),
        )
        .route(
            "/applications/{id}/status",
            put(update_status).layer(users_and_job_applier),
        )
        .route("/applications/take", post(take).layer(job_applier))
        .route("/users/{id}", get(user).layer(everybody))
        .route("/", get(|| async { Redirect::temporary("/swagger") }))
        .route("/openapi.json", get(openapi::document))
        .route("/swagger", get(openapi::page))
        .route("/swagger/{file}", get(openapi::file))
        .with_state(database)
}

async fn application(
    State(database): State<Database>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Application>, ApiError> {
    visible(&database, &caller, id).await.map(Json)
}

async fn resume(
    State(database): State<Database>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<([(HeaderName, String); 2], Vec<u8>), ApiError> {
    let application = visible(&database, &caller, id).await?;
    let missing = ApiError::NotFound(format!("no résumé goes with {}", application.id));
    let resume = blocking(&database, move |database| database.resume(&application.id)).await?;
    let Resume {
        file_name,
        content_type,
        content,
    } = resume.ok_or(missing)?;
    let disposition = format!("attachment; filename=\"{file_name}\"");
    let headers = [
        (CONTENT_TYPE, content_type),
        (CONTENT_DISPOSITION, disposition),
    ];
    Ok((headers, content))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StatusChange {
    status: Status,
}

async fn update_status(
    State(database): State<Database>,
    caller: Caller,
    Path(id): Path<String>,
    change: Result<Json<StatusChange>, JsonRejection>,
) -> Result<Json<Application>, ApiError> {
    let Json(StatusChange { status }) = change?;
    let application = visible(&database, &caller, id).await?;
    if status == Status::Submitted && caller.as_machine().is_none() {
        return Err(ApiError::OnlyJobApplier);
    }
    let missing = no_application(&application.id);
    let changed = blocking(&database, move |database| {
        database.set_status(&application.id, status)
    });
    let changed = changed.await?.ok_or(missing)?;
    tracing::info!(application.id = changed.id, status = %changed.status, "status updated");
    Ok(Json(changed))
}

async fn take(State(database): State<Database>) -> Result<Response, ApiError> {
    let taken = blocking(&database, Database::take_queued).await?;
    Ok(match taken {
        Some(application) => Json(application).into_response(),
        None => StatusCode::NO_CONTENT.into_response(),
    })
}

async fn user(
    State(database): State<Database>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<User>, ApiError> {
    let missing = ApiError::NotFound(format!("there is no user {id}"));
    if !may_see(&caller, &id) {
        return Err(missing);
    }
    let user = blocking(&database, move |database| database.user(&id)).await?;
    user.map(Json).ok_or(missing)
}

/// The application of this id, if the caller may see it.
async fn visible(
    database: &Database,
    caller: &Caller,
    id: String,
) -> Result<Application, ApiError> {
    let missing = no_application(&id);
    let application = blocking(database, move |database| database.application(&id)).await?;
    application
        .filter(|application| may_see(caller, &application.user_id))
        .ok_or(missing)
}

/// Users see what is theirs, machines see everything.
fn may_see(caller: &Caller, owner: &str) -> bool {
    match caller {
        Caller::User(user) => user.subject() == owner,
        Caller::Machine(_) => true,
        _ => false,
    }
}

fn no_application(id: &str) -> ApiError {
    ApiError::NotFound(format!("there is no application {id}"))
}

/// Asks the database on a thread that may wait.
async fn blocking<T: Send + 'static>(
    database: &Database,
    ask: impl FnOnce(&Database) -> Result<T, DatabaseError> + Send + 'static,
) -> Result<T, ApiError> {
    let database = database.clone();
    let asked = tokio::task::spawn_blocking(move || ask(&database)).await;
    Ok(asked.map_err(ApiError::Stopped)??)
}

/// Why a caller who was let in does not get what they asked for. The body has the members of a [`Refusal`]'s.
///
/// [`Refusal`]: countersign_receiver::Refusal
enum ApiError {
    /// There is none, or not for this caller.
    NotFound(String),
    /// A user set what only JobApplier sets.
    OnlyJobApplier,
    /// The body of the request cannot be read.
    Body(JsonRejection),
    /// The database refuses, or fails.
    Database(DatabaseError),
    /// The thread that asked the database was stopped.
    Stopped(tokio::task::JoinError),
}

impl From<DatabaseError> for ApiError {
    fn from(error: DatabaseError) -> Self {
        Self::Database(error)
    }
}

impl From<JsonRejection> for ApiError {
    fn from(rejection: JsonRejection) -> Self {
        Self::Body(rejection)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, reason, message) = match self {
            Self::NotFound(message) => (StatusCode::NOT_FOUND, "not_found", message),
            Self::OnlyJobApplier => (
                StatusCode::FORBIDDEN,
                "machine_required",
                format!("the status submitted requires {JOB_APPLIER} machine token"),
            ),
            Self::Body(rejection) => (rejection.status(), "body_malformed", rejection.body_text()),
            Self::Database(error @ DatabaseError::IllegalTransition { .. }) => (
                StatusCode::CONFLICT,
                "illegal_transition",
                error.to_string(),
            ),
            Self::Database(DatabaseError::Sqlite(error)) => internal(&error),
            Self::Stopped(error) => internal(&error),
        };
        (
            status,
            Json(json!({ "reason": reason, "message": message })),
        )
            .into_response()
    }
}

/// The log gets the error, the caller does not.
fn internal(error: &(dyn std::error::Error + 'static)) -> (StatusCode, &'static str, String) {
    tracing::error!(error, "the database failed");
    let message = "something went wrong here".to_owned();
    (StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
}
