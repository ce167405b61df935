//! The benchmark: what a request costs, compared with yardsticks measured in the same sitting.
//!
//! `scripts/bench` runs it. From the outside in: `comparisons` says what is compared and which ratio
//! is wanted; `candidate` alternates and takes medians; `load` and `requests` generate the load;
//! `process` starts servers and reads their processor time; `deployment`, `oidc` and `signature` are
//! what is measured, `cold` and `in_process` two measurements without load, `receiver` what checks cost on the
//! side that is called; `metrics` says where a server's answers came from; `authority` opens the product in this
//! package's own processes; `report` prints.

pub mod authority;
pub mod candidate;
pub mod clock;
pub mod cold;
pub mod comparisons;
pub mod deployment;
pub mod http;
pub mod in_process;
pub mod load;
pub mod metrics;
pub mod oidc;
pub mod process;
pub mod receiver;
pub mod report;
pub mod requests;
pub mod signature;
