//! JobApplier takes a queued application, downloads the résumé, and marks the application submitted.

use countersign_client::{ReqwestError, TokenSource};
use reqwest::header::CONTENT_TYPE;
use reqwest::{Method, StatusCode};

use super::{Api, BotError, json};
use crate::database::Application;
use crate::status::Status;

/// The largest résumé that companies take.
const MAX_RESUME_BYTES: usize = 5 << 20;

/// Sends applications to companies.
#[derive(Clone, Debug)]
pub struct JobApplier {
    api: Api,
}

impl JobApplier {
    /// Gets the first token and is ready.
    ///
    /// # Errors
    /// [`BotError::Token`] where there is none.
    pub async fn new(api_url: &str, tokens: TokenSource) -> Result<Self, BotError> {
        let api = Api::connect(api_url, tokens).await?;
        Ok(Self { api })
    }

    /// Sends the oldest queued application. `None` where nothing is queued.
    ///
    /// # Errors
    /// Each kind of [`BotError`]. The application stays queued, and after ten minutes somebody else gets it.
    pub async fn apply_to_next(&self) -> Result<Option<Application>, BotError> {
        let Some(application) = self.take().await? else {
            tracing::info!("no application is queued");
            return Ok(None);
        };
        let resume = self.resume(&application).await?;
        // Here a real one would send the application to the company.
        tracing::info!(
            application.id = application.id,
            company = application.company,
            resume.bytes = resume.len(),
            "application sent"
        );
        self.set_status(&application.id, Status::Submitted)
            .await
            .map(Some)
    }

    async fn take(&self) -> Result<Option<Application>, BotError> {
        let response = self
            .api
            .send(Method::POST, "/applications/take", None)
            .await?;
        if response.status() == StatusCode::NO_CONTENT {
            return Ok(None);
        }
        json(response).await.map(Some)
    }

    async fn resume(&self, application: &Application) -> Result<Vec<u8>, BotError> {
        let path = format!("/applications/{}/resume", application.id);
        let response = self.api.send(Method::GET, &path, None).await?;
        let content_type = response.headers().get(CONTENT_TYPE).cloned();
        let content = response.bytes().await.map_err(ReqwestError::from)?;
        let fault = if content_type.is_none_or(|it| it != "application/pdf") {
            "its content type is not application/pdf"
        } else if !content.starts_with(b"%PDF-") {
            "it is no PDF"
        } else if content.len() > MAX_RESUME_BYTES {
            "it is larger than 5 MiB"
        } else {
            return Ok(content.to_vec());
        };
        Err(BotError::Resume {
            application_id: application.id.clone(),
            fault: fault.to_owned(),
        })
    }

    /// Changes how far an application is.
    ///
    /// # Errors
    /// Each kind of [`BotError`].
    pub async fn set_status(
        &self,
        application_id: &str,
        status: Status,
    ) -> Result<Application, BotError> {
        let path = format!("/applications/{application_id}/status");
        let body = serde_json::json!({ "status": status }).to_string();
        json(self.api.send(Method::PUT, &path, Some(body)).await?).await
    }
}
