//! Traces for an OpenTelemetry collector, where one is configured: a span for each request, with method, route and status.
//!
//! A span never holds a path, a header or a body, because secrets travel there. Spans are sent in batches from a thread of
//! their own and dropped where the collector cannot keep up; no request waits for them.

use std::time::Duration;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{
    ExporterBuildError, SpanExporter, WithExportConfig as _, WithHttpConfig as _,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SdkTracerProvider, Tracer};
use tokio::runtime::Handle;

use crate::environment::variable;
use crate::exit::{Code, Failure};
use crate::settings::Settings;

/// How long the collector may take for a batch.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The export of traces.
#[derive(Debug)]
pub(crate) struct Telemetry(SdkTracerProvider);

impl Telemetry {
    /// Prepares the export to the collector that the settings name. Must be called within the runtime.
    ///
    /// What is unusable in the variables that all programs share is no reason not to start: it comes back as a warning.
    pub(crate) fn from_settings(
        settings: &Settings,
    ) -> Result<(Option<Self>, Option<Failure>), Failure> {
        let is =
            |name, value: &str| variable(name).is_some_and(|text| text.eq_ignore_ascii_case(value));
        let is_off = is("OTEL_SDK_DISABLED", "true") || is("OTEL_TRACES_EXPORTER", "none");
        let Some(endpoint) = settings.otlp_endpoint.as_deref().filter(|_| !is_off) else {
            return Ok((None, None));
        };
        // A name and password in it are nobody's business.
        let shown = endpoint
            .rsplit_once('@')
            .map_or(endpoint, |(_, place)| place);
        let failure = |why: &dyn std::fmt::Display| {
            Failure::new(
                Code::Settings,
                format!("traces cannot be sent to '{shown}': {why}"),
                "write the collector's address for OTLP over HTTP, like http://127.0.0.1:4318",
            )
        };
        if !endpoint.starts_with("http://") {
            let failure = failure(
                &"it must begin with http://; put a collector on this machine for anything farther",
            );
            return if settings.is_otlp_endpoint_shared {
                Ok((None, Some(failure)))
            } else {
                Err(failure)
            };
        }
        // What the builder refuses now comes from other shared variables.
        Ok(match Self::new(endpoint) {
            Ok(telemetry) => (Some(telemetry), None),
            Err(_) => (
                None,
                Some(failure(
                    &"the address or another OTEL_ variable is not valid",
                )),
            ),
        })
    }

    fn new(endpoint: &str) -> Result<Self, ExporterBuildError> {
        let client = OnRuntime {
            runtime: Handle::current(),
            client: HyperClient::with_default_connector(TIMEOUT, None),
        };
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
            .with_timeout(TIMEOUT)
            .build()?;
        let resource = Resource::builder().with_service_name("countersign").build();
        Ok(Self(
            SdkTracerProvider::builder()
                .with_batch_exporter(exporter)
                .with_resource(resource)
                .build(),
        ))
    }

    /// What `tracing` gives its spans to.
    pub(crate) fn tracer(&self) -> Tracer {
        self.0.tracer("countersign")
    }

    /// Sends what waits, for a few seconds at most.
    pub(crate) async fn stop(self) {
        // Not on this thread: it drives the connection to the collector.
        let stopped =
            tokio::task::spawn_blocking(move || self.0.shutdown_with_timeout(TIMEOUT)).await;
        if let Ok(Err(error)) = stopped {
            tracing::warn!(%error, "the last traces were not sent");
        }
    }
}

/// A client whose requests run on the program's runtime, because the exporter's thread has none.
#[derive(Debug)]
struct OnRuntime {
    runtime: Handle,
    client: HyperClient,
}

#[async_trait::async_trait]
impl HttpClient for OnRuntime {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.client.clone();
        self.runtime
            .spawn(async move { client.send_bytes(request).await })
            .await?
    }
}
