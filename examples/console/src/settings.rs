//! The settings of the three services from the environment, which is read here and nowhere else.
//!
//! The names that begin with `CLERK_` are those of existing deployments. `.env.example` explains all of them.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;

use anyhow::{Context as _, bail};
use countersign_client::{TokenSource, TokenString};
use countersign_protocol::secret::Secret;
use countersign_receiver::{ReceiverBuilder, Services};

use crate::client::{self, Credential, Retry};
use crate::{api, webhook};

const API_LISTEN: &str = "CONSOLE_API_LISTEN";
const API_URL: &str = "CONSOLE_API_URL";
const WEBHOOK_LISTEN: &str = "CONSOLE_WEBHOOK_LISTEN";
const GITHUB_SECRET: &str = "GITHUB_WEBHOOK_SECRET";
const LEGACY_SECRET: &str = "INTERNAL_API_SECRET";

/// The variables of the environment. `Debug` shows names only.
pub struct Environment(BTreeMap<String, String>);

impl fmt::Debug for Environment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.0.keys()).finish()
    }
}

impl Environment {
    /// Reads the variables of this process. One that is empty counts as not set.
    #[must_use]
    pub fn of_process() -> Self {
        std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect()
    }

    /// Where the API listens, and its settings.
    ///
    /// # Errors
    /// Names what is missing or cannot be used.
    pub fn api(&self) -> anyhow::Result<(SocketAddr, api::Settings)> {
        let services = self.services();
        let receiver = ReceiverBuilder::from_services(&services, "trpc")?;
        let legacy_secret = self.get(LEGACY_SECRET).map(secret);
        match services.require(&["webhook", "workflow"]) {
            Ok(()) => {}
            // The senders whose machines are not known yet can still use the shared secret.
            Err(missing) if legacy_secret.is_some() => tracing::warn!("{missing}"),
            Err(missing) => return Err(missing.into()),
        }
        let settings = api::Settings {
            receiver,
            legacy_secret,
        };
        Ok((self.address(API_LISTEN, "127.0.0.1:5100")?, settings))
    }

    /// Where the webhook handler listens, and its settings.
    ///
    /// # Errors
    /// Names what is missing or cannot be used.
    pub fn webhook(&self) -> anyhow::Result<(SocketAddr, webhook::Settings)> {
        let Some(github_secret) = self.get(GITHUB_SECRET) else {
            bail!("{GITHUB_SECRET} is not set: it is the secret that GitHub has for this webhook");
        };
        let settings = webhook::Settings {
            api: self.caller("webhook")?,
            github_secret: secret(github_secret),
        };
        Ok((self.address(WEBHOOK_LISTEN, "127.0.0.1:5101")?, settings))
    }

    /// How the workflow runner calls the API.
    ///
    /// # Errors
    /// Names what is missing or cannot be used.
    pub fn workflow(&self) -> anyhow::Result<client::Settings> {
        self.caller("workflow")
    }

    /// A caller with its ready-made token, or without one the shared secret.
    fn caller(&self, service: &str) -> anyhow::Result<client::Settings> {
        let services = self.services();
        let credential = match (services.token(service), self.get(LEGACY_SECRET)) {
            (Ok(token), _) => {
                Credential::Token(TokenSource::ready_made(TokenString::new(token)?, None))
            }
            (Err(_), Some(legacy_secret)) => Credential::Legacy {
                caller: service.to_owned(),
                secret: secret(legacy_secret),
            },
            (Err(missing), None) => return Err(missing.into()),
        };
        Ok(client::Settings {
            api_url: self
                .get(API_URL)
                .unwrap_or("http://127.0.0.1:5100")
                .to_owned(),
            credential,
            retry: Retry::default(),
        })
    }

    fn services(&self) -> Services {
        Services::from_variables(self.0.clone())
    }

    fn address(&self, name: &str, otherwise: &str) -> anyhow::Result<SocketAddr> {
        let text = self.get(name).unwrap_or(otherwise);
        text.parse()
            .with_context(|| format!("{name} is '{text}'; write it like {otherwise}"))
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

impl FromIterator<(String, String)> for Environment {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(variables: I) -> Self {
        let trimmed = variables
            .into_iter()
            .map(|(name, value)| (name, value.trim().to_owned()));
        Self(trimmed.filter(|(_, value)| !value.is_empty()).collect())
    }
}

fn secret(text: &str) -> Secret {
    Secret::new(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRPC: [(&str, &str); 3] = [
        ("CLERK_API_BASE_URL", "http://127.0.0.1:4840/v1"),
        ("CLERK_MACHINE_SECRET_KEY_TRPC", "ak_trpc"),
        (
            "CLERK_M2M_MACHINE_ID_TRPC",
            "mch_2xhFjEI5X2qWRvtV13BzSj8H6Dk",
        ),
    ];
    const LEGACY: (&str, &str) = ("INTERNAL_API_SECRET", "the old shared secret");

    fn environment(variables: &[(&str, &str)]) -> Environment {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        variables.iter().map(owned).collect()
    }

    #[test]
    fn an_api_without_settings_names_all_of_them() {
        let error = environment(&[]).api().unwrap_err();
        assert_eq!(
            error.to_string(),
            "M2M not configured: set CLERK_API_URL (or CLERK_API_BASE_URL), CLERK_MACHINE_SECRET_KEY_TRPC (or CLERK_MACHINE_SECRET_KEY), CLERK_M2M_MACHINE_ID_TRPC"
        );
    }

    #[test]
    fn an_api_may_do_without_its_callers_machines_only_while_the_fallback_is_on() {
        let error = environment(&TRPC).api().unwrap_err();
        assert_eq!(
            error.to_string(),
            "M2M not configured: set CLERK_M2M_MACHINE_ID_WEBHOOK, CLERK_M2M_MACHINE_ID_WORKFLOW"
        );
        let migrating = [TRPC.as_slice(), &[LEGACY]].concat();
        let (address, settings) = environment(&migrating).api().unwrap();
        assert_eq!(address.to_string(), "127.0.0.1:5100");
        assert!(settings.legacy_secret.is_some());
    }

    #[test]
    fn a_sender_takes_its_token_else_the_shared_secret_else_says_what_to_set() {
        let token = ("CLERK_M2M_TOKEN_WORKFLOW", "mt_for_a_year");
        let settings = environment(&[token, LEGACY]).workflow().unwrap();
        assert!(matches!(settings.credential, Credential::Token(_)));
        let settings = environment(&[LEGACY]).workflow().unwrap();
        assert!(matches!(settings.credential, Credential::Legacy { .. }));
        let error = environment(&[]).workflow().unwrap_err();
        assert_eq!(
            error.to_string(),
            "M2M not configured: set CLERK_M2M_TOKEN_WORKFLOW"
        );
    }

    #[test]
    fn a_webhook_without_githubs_secret_does_not_begin() {
        let token = ("CLERK_M2M_TOKEN_WEBHOOK", "mt_for_a_year");
        let error = environment(&[token]).webhook().unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("GITHUB_WEBHOOK_SECRET is not set"),
            "{error}"
        );
    }

    #[test]
    fn an_environment_shows_no_values() {
        assert_eq!(
            format!("{:?}", environment(&[LEGACY])),
            r#"{"INTERNAL_API_SECRET"}"#
        );
    }
}
