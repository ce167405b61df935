//! The environment of senders and receivers, read here and nowhere else.
//!
//! The names are those of existing deployments. Files such as `.env` are for programs to read, not for this crate.

use std::collections::HashMap;
use std::fmt;

use countersign_protocol::secret::Secret;
use countersign_protocol::variables::{
    ADDRESS, ADDRESS_WITH_VERSION, INSTANCE_KEY, MACHINE_KEY, TOKEN, of_service,
};

use crate::error::SettingsError;

/// The variables that this crate knows, as they were when they were read.
#[derive(Default)]
pub(crate) struct Environment(HashMap<String, Secret>);

impl fmt::Debug for Environment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.0.keys()).finish()
    }
}

impl Environment {
    /// The variables of this process. One that is empty counts as not set.
    pub(crate) fn of_process() -> Self {
        Self::from_iter(std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        }))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(Secret::expose)
    }

    /// A key that begins with `prefix`, under the first of these names that is set. Where none is, `missing` is told.
    pub(crate) fn key(
        &self,
        names: &[String],
        prefix: &str,
        missing: &mut Vec<String>,
    ) -> Result<Option<&str>, SettingsError> {
        let set = names.iter().find_map(|name| Some((name, self.get(name)?)));
        let Some((name, key)) = set else {
            missing.push(alternatives(names));
            return Ok(None);
        };
        if !key.starts_with(prefix) {
            return Err(SettingsError::Key(format!(
                "{name} holds no such key: what belongs there begins with {prefix}"
            )));
        }
        Ok(Some(key))
    }

    /// The authority's address, under either name.
    pub(crate) fn address(&self, missing: &mut Vec<String>) -> Option<&str> {
        let address = self.get(ADDRESS_WITH_VERSION).or_else(|| self.get(ADDRESS));
        if address.is_none() {
            missing.push(format!("{ADDRESS} (or {ADDRESS_WITH_VERSION})"));
        }
        address
    }

    /// The instance key.
    pub(crate) fn instance_key(
        &self,
        missing: &mut Vec<String>,
    ) -> Result<Option<&str>, SettingsError> {
        self.key(&[INSTANCE_KEY.to_owned()], "sk_", missing)
    }

    /// The key of this machine, or of one of those that this process is.
    pub(crate) fn machine_key(
        &self,
        service: Option<&str>,
        missing: &mut Vec<String>,
    ) -> Result<Option<&str>, SettingsError> {
        let own = service.map(|service| of_service(MACHINE_KEY, service));
        let names: Vec<_> = own.into_iter().chain([MACHINE_KEY.to_owned()]).collect();
        self.key(&names, "ak_", missing)
    }

    /// A ready-made token for calls as, or to, a service, and the variable that holds it.
    pub(crate) fn token(&self, service: &str) -> Option<(String, &str)> {
        let name = of_service(TOKEN, service);
        let token = self.get(&name)?;
        Some((name, token))
    }
}

/// `A (or B)`.
fn alternatives(names: &[String]) -> String {
    match names {
        [first, rest @ ..] if !rest.is_empty() => format!("{first} (or {})", rest.join(", ")),
        _ => names.concat(),
    }
}

impl FromIterator<(String, String)> for Environment {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(variables: I) -> Self {
        let known = variables
            .into_iter()
            .filter(|(name, value)| name.starts_with("CLERK_") && !value.trim().is_empty());
        Self(
            known
                .map(|(name, value)| (name, Secret::new(value.trim().to_owned())))
                .collect(),
        )
    }
}
