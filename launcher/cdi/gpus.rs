//! The GPUs that Slurm gave the step, as devices, where the site says what they are called.

use crate::host::Host;
use chariot_core::config::Config;
use chariot_core::options::Sourced;
use chariot_core::options::device::{Device, check_name};

/// Where Slurm says which GPUs of the node a step has: numbers that count the node's GPUs, not those that the task can
/// see. The plugin has put together what the tasks of the node have.
const OF_STEP: &str = "SLURM_STEP_GPUS";
/// And which ones a job has there. In a step of its script it still says so, even if the step has none.
const OF_JOB: &str = "SLURM_JOB_GPUS";

/// The devices of the step; none if it has none, or the site does not say what they are.
pub(super) fn of_the_step(config: &Config, host: &Host) -> Vec<Sourced<Device>> {
    let Some(kind) = &config.gpu_kind else {
        return Vec::new();
    };
    let variables: &[&str] = match host.is_in_script() {
        true => &[OF_STEP, OF_JOB],
        false => &[OF_STEP],
    };
    let given = variables.iter().find_map(|name| {
        let value = host.variable(name)?.to_str()?;
        (!value.is_empty()).then(|| (name, value.to_owned()))
    });
    let Some((variable, numbers)) = given else {
        return Vec::new();
    };
    let device = |name: &str| Sourced {
        value: Device::Named {
            kind: kind.clone(),
            name: name.to_owned(),
        },
        origin: format!("{variable} of the step"),
    };
    numbers
        .split(',')
        .filter(|name| check_name(name).is_ok())
        .map(device)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(variables: &[(&str, &str)], kind: Option<&str>) -> Vec<String> {
        let owned = |(name, value): &(&str, &str)| ((*name).into(), (*value).into());
        let host = Host::look(variables.iter().map(owned).collect(), None);
        let config = Config {
            gpu_kind: kind.map(str::to_owned),
            ..Config::default()
        };
        let devices = of_the_step(&config, &host);
        devices
            .iter()
            .map(|device| device.value.to_string())
            .collect()
    }

    #[test]
    fn a_step_gets_its_own_gpus_and_a_script_those_of_the_job() {
        let kind = Some("nvidia.com/gpu");
        let (job, step) = (("SLURM_JOB_GPUS", "0,1"), ("SLURM_STEP_GPUS", "1"));
        let number = ("SLURM_STEP_ID", "0");
        assert_eq!(names(&[job, step, number], kind), ["nvidia.com/gpu=1"]);
        assert_eq!(
            names(&[job, ("SLURM_JOB_ID", "1")], kind),
            ["nvidia.com/gpu=0", "nvidia.com/gpu=1"]
        );
        for special in ["4294967290", "-5"] {
            let shell = ("SLURM_STEP_ID", special);
            assert_eq!(names(&[job, shell, ("SLURM_JOB_ID", "1")], kind).len(), 2);
        }
        assert!(
            names(&[job, number], kind).is_empty(),
            "a step without GPUs"
        );
        assert!(names(&[job, step, number], None).is_empty());
    }
}
