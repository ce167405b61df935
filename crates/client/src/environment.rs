//! The environment of senders and receivers, read here and nowhere else.
//!
//! The names are those of existing deployments. Files such as `.env` are for programs to read, not for this crate.

use std::collections::HashMap;
use std::fmt;

use countersign_protocol::secret::Secret;
use countersign_protocol::variables::{
    ADDRESS, ADDRESS_WITH_VERSION, MACHINE_KEY, TOKEN, of_service,
};

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

    /// A variable; where it is not set, its name is added to those that are missing.
    pub(crate) fn needed(&self, name: &str, missing: &mut Vec<String>) -> Option<&str> {
        let value = self.get(name);
        if value.is_none() {
            missing.push(name.to_owned());
        }
        value
    }

    /// The authority's address, under either name.
    pub(crate) fn address(&self, missing: &mut Vec<String>) -> Option<&str> {
        self.get(ADDRESS_WITH_VERSION)
            .or_else(|| self.needed(ADDRESS, missing))
    }

    /// The key of this machine, or of one of those that this process is.
    pub(crate) fn machine_key(
        &self,
        service: Option<&str>,
        missing: &mut Vec<String>,
    ) -> Option<&str> {
        let own = service.and_then(|service| self.get(&of_service(MACHINE_KEY, service)));
        own.or_else(|| self.needed(MACHINE_KEY, missing))
    }

    /// A ready-made token for calls as, or to, a service.
    pub(crate) fn token(&self, service: &str) -> Option<&str> {
        self.get(&of_service(TOKEN, service))
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
