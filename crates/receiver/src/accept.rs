//! Whom a route accepts.

use countersign_protocol::ids::MachineId;
use countersign_protocol::variables::suffix_of;

/// Whom a route accepts. Nobody who is not named.
///
/// ```
/// use countersign_receiver::Accept;
///
/// // Only the machine that is configured as the service "webhook".
/// let webhook = Accept::service("webhook");
/// // Users and all machines that may call this one.
/// let everybody = Accept::user().or(Accept::any_machine());
/// // During a migration: the webhook machine, or whoever knows the old secret.
/// let migrating = Accept::service("webhook").or(Accept::legacy());
/// # let _ = (webhook, everybody, migrating);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accept {
    pub(crate) user: bool,
    pub(crate) any_machine: bool,
    pub(crate) machines: Vec<MachineId>,
    pub(crate) services: Vec<Service>,
    pub(crate) legacy: bool,
}

/// A service by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Service {
    pub(crate) name: Box<str>,
    /// The name as variables of the environment end in it, under which the machine is looked up.
    pub(crate) suffix: Box<str>,
}

impl Accept {
    /// Users, by a JWT of a configured issuer.
    #[must_use]
    pub fn user() -> Self {
        Self {
            user: true,
            ..Self::default()
        }
    }

    /// Each machine that may call this one.
    #[must_use]
    pub fn any_machine() -> Self {
        Self {
            any_machine: true,
            ..Self::default()
        }
    }

    /// One machine.
    #[must_use]
    pub fn machine(id: MachineId) -> Self {
        Self {
            machines: vec![id],
            ..Self::default()
        }
    }

    /// The machine that is configured as this service, by [`ReceiverBuilder::service`](crate::ReceiverBuilder::service) or by
    /// `CLERK_M2M_MACHINE_ID_<SERVICE>`.
    #[must_use]
    pub fn service(name: &str) -> Self {
        Self {
            services: vec![Service {
                name: name.into(),
                suffix: suffix_of(name).into(),
            }],
            ..Self::default()
        }
    }

    /// Whoever passes the legacy check, where no token was presented.
    #[must_use]
    pub fn legacy() -> Self {
        Self {
            legacy: true,
            ..Self::default()
        }
    }

    /// Those and these.
    #[must_use]
    pub fn or(mut self, other: Self) -> Self {
        self.user |= other.user;
        self.any_machine |= other.any_machine;
        self.machines.extend(other.machines);
        self.services.extend(other.services);
        self.legacy |= other.legacy;
        self
    }

    /// Whether any machine at all is accepted.
    pub(crate) fn accepts_machines(&self) -> bool {
        self.any_machine || !self.machines.is_empty() || !self.services.is_empty()
    }
}
