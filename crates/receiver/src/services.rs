//! Services by name, and their settings in the environment, which is read here and nowhere else.
//!
//! The names are those of existing deployments. Files such as `.env` are for programs to read, not for this crate.

use std::collections::BTreeMap;
use std::fmt;

use countersign_protocol::ids::MachineId;
use countersign_protocol::secret::{Secret, why_not_a_token};
use countersign_protocol::variables::{
    ADDRESS, ADDRESS_WITH_VERSION, MACHINE_ID, MACHINE_KEY, TOKEN, of_service,
};

use crate::error::SetupError;

/// The settings of services: which machine each is, and the ready-made token of each, where this process has it.
///
/// A service named `webhook` has `CLERK_M2M_MACHINE_ID_WEBHOOK` and `CLERK_M2M_TOKEN_WEBHOOK`. `Debug` shows names only.
///
/// ```
/// use countersign_receiver::Services;
///
/// let services = Services::from_variables([(
///     "CLERK_M2M_MACHINE_ID_WEBHOOK".to_owned(),
///     "mch_2xhFjEI5X2qWRvtV13BzSj8H6Dk".to_owned(),
/// )]);
/// assert!(services.is_configured("webhook"));
/// assert!(services.machine_id("webhook").is_ok());
/// let missing = services.require(&["webhook", "workflow"]).unwrap_err();
/// assert_eq!(missing.to_string(), "M2M not configured: set CLERK_M2M_MACHINE_ID_WORKFLOW");
/// ```
#[derive(Default)]
pub struct Services(BTreeMap<String, Secret>);

impl fmt::Debug for Services {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.0.keys()).finish()
    }
}

impl Services {
    /// Reads the environment of this process.
    #[must_use]
    pub fn from_env() -> Self {
        Self::from_variables(std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        }))
    }

    /// Takes variables from elsewhere. One that is empty counts as not set.
    #[must_use]
    pub fn from_variables(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let known = variables.into_iter().filter_map(|(name, value)| {
            let value = value.trim();
            (name.starts_with("CLERK_") && !value.is_empty())
                .then(|| (name, Secret::new(value.to_owned())))
        });
        Self(known.collect())
    }

    /// Whether it is set which machine this service is, so that its calls can be told from others.
    #[must_use]
    pub fn is_configured(&self, service: &str) -> bool {
        self.machine_id(service).is_ok()
    }

    /// Which machine this service is.
    ///
    /// # Errors
    /// Names the variable that is missing or is no machine id.
    pub fn machine_id(&self, service: &str) -> Result<MachineId, SetupError> {
        let name = of_service(MACHINE_ID, service);
        match self.0.get(&name) {
            None => Err(SetupError::Missing(vec![name])),
            Some(text) => text
                .expose()
                .parse()
                .map_err(|error| SetupError::Unusable(format!("{name} is {error}"))),
        }
    }

    /// The ready-made token of this service, to present when calling as it.
    ///
    /// # Errors
    /// Names the variable that is missing, or holds something that is clearly not a token, such as a key.
    pub fn token(&self, service: &str) -> Result<&str, SetupError> {
        let name = of_service(TOKEN, service);
        let Some(token) = self.get(&name) else {
            return Err(SetupError::Missing(vec![name]));
        };
        match why_not_a_token(token) {
            None => Ok(token),
            Some(why) => Err(SetupError::Unusable(format!("{name}: {why}"))),
        }
    }

    /// Says in one error which variables are missing before calls of all these services can be told apart.
    ///
    /// # Errors
    /// Names every variable that is missing, or the first that is no machine id.
    pub fn require(&self, services: &[&str]) -> Result<(), SetupError> {
        let mut missing = Vec::new();
        for service in services {
            match self.machine_id(service) {
                Ok(_) => {}
                Err(SetupError::Missing(names)) => missing.extend(names),
                Err(other) => return Err(other),
            }
        }
        SetupError::unless_complete(missing)
    }

    /// The settings of a receiver that is itself the service `own`: the authority's address, its key, its machine id.
    pub(crate) fn own(&self, own: &str) -> Result<(&str, &str, MachineId), SetupError> {
        let mut missing = Vec::new();
        let address = self.get(ADDRESS_WITH_VERSION).or_else(|| self.get(ADDRESS));
        if address.is_none() {
            missing.push(format!("{ADDRESS} (or {ADDRESS_WITH_VERSION})"));
        }
        let own_key = of_service(MACHINE_KEY, own);
        let key = self.get(&own_key).or_else(|| self.get(MACHINE_KEY));
        if key.is_none() {
            missing.push(format!("{own_key} (or {MACHINE_KEY})"));
        }
        let id = match self.machine_id(own) {
            Ok(id) => Some(id),
            Err(SetupError::Missing(names)) => {
                missing.extend(names);
                None
            }
            Err(other) => return Err(other),
        };
        match (address, key, id) {
            (Some(address), Some(key), Some(id)) => Ok((address, key, id)),
            _ => Err(SetupError::Missing(missing)),
        }
    }

    /// The services that have a machine id, by the suffix of their variables.
    pub(crate) fn machine_ids(&self) -> Result<BTreeMap<Box<str>, MachineId>, SetupError> {
        let suffixes = self.0.keys().filter_map(|name| {
            let suffix = name.strip_prefix(MACHINE_ID)?.strip_prefix('_')?;
            (!suffix.is_empty()).then_some(suffix)
        });
        suffixes
            .map(|suffix| Ok((suffix.into(), self.machine_id(suffix)?)))
            .collect()
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(Secret::expose)
    }
}

/// The variable that says which machine a service is.
pub(crate) fn machine_id_variable(suffix: &str) -> String {
    format!("{MACHINE_ID}_{suffix}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "mch_2xhFjEI5X2qWRvtV13BzSj8H6Dk";

    fn services(variables: &[(&str, &str)]) -> Services {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Services::from_variables(variables.iter().map(owned))
    }

    #[test]
    fn one_error_names_every_missing_variable() {
        let nothing = services(&[("CLERK_API_URL", " ")]);
        let error = nothing.own("trpc").expect_err("nothing is set");
        assert_eq!(
            error.to_string(),
            "M2M not configured: set CLERK_API_URL (or CLERK_API_BASE_URL), CLERK_MACHINE_SECRET_KEY_TRPC (or CLERK_MACHINE_SECRET_KEY), CLERK_M2M_MACHINE_ID_TRPC"
        );
        let error = nothing
            .require(&["webhook", "work-flow"])
            .expect_err("nothing is set");
        assert_eq!(
            error.to_string(),
            "M2M not configured: set CLERK_M2M_MACHINE_ID_WEBHOOK, CLERK_M2M_MACHINE_ID_WORK_FLOW"
        );
    }

    #[test]
    fn the_key_of_the_service_comes_before_the_key_of_the_process() {
        let services = services(&[
            ("CLERK_API_BASE_URL", "https://auth.example.com/v1"),
            ("CLERK_MACHINE_SECRET_KEY", "ak_process"),
            ("CLERK_MACHINE_SECRET_KEY_TRPC", "ak_trpc"),
            ("CLERK_M2M_MACHINE_ID_TRPC", ID),
            ("CLERK_M2M_TOKEN_TRPC", "mt_token"),
        ]);
        let (address, key, id) = services.own("trpc").expect("all is set");
        assert_eq!((address, key), ("https://auth.example.com/v1", "ak_trpc"));
        assert_eq!(id.as_str(), ID);
        assert_eq!(services.token("trpc").ok(), Some("mt_token"));
    }

    #[test]
    fn a_wrong_machine_id_is_told_from_a_missing_one_and_no_secret_is_shown() {
        let services = services(&[
            (
                "CLERK_M2M_MACHINE_ID_WEBHOOK",
                "ins_2xhFjEI5X2qWRvtV13BzSj8H6Dk",
            ),
            ("CLERK_M2M_TOKEN_WEBHOOK", "mt_hidden"),
        ]);
        assert!(!services.is_configured("webhook"));
        let error = services
            .machine_id("webhook")
            .expect_err("another kind of id");
        assert!(
            error
                .to_string()
                .contains("CLERK_M2M_MACHINE_ID_WEBHOOK is not a machine id"),
            "{error}"
        );
        assert!(!format!("{services:?}").contains("hidden"));
    }
}
