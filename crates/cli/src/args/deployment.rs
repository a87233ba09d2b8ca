//! The environment and the limits of runs.

use perennial::{Deployment, EnvironmentMode};

/// Mode and limits. PERENNIAL_ENV and PIPELINE_TIMEOUT are weaker than the document, so they are no defaults of these.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Deployment")]
pub(crate) struct DeploymentArgs {
    /// The environment, which says which limits hold: development, production or test [env: PERENNIAL_ENV]
    #[arg(long, value_name = "MODE")]
    env: Option<EnvironmentMode>,
    /// One limit of the run, as NAME=NUMBER; may be repeated
    #[arg(long = "limit", value_name = "NAME=NUMBER")]
    limits: Vec<String>,
}

impl DeploymentArgs {
    /// What is stronger than the document, over what is `configured`.
    ///
    /// # Errors
    ///
    /// When a limit does not exist or cannot have its value.
    pub(crate) fn over(&self, configured: &Deployment) -> Result<Deployment, String> {
        let mut deployment = Deployment::default();
        if let Some(mode) = self.env {
            deployment = deployment.environment(mode);
        }
        for pair in &self.limits {
            let (name, value) = pair
                .split_once('=')
                .ok_or_else(|| format!("--limit needs NAME=NUMBER, got: {pair}"))?;
            deployment = deployment.limit(name, value).map_err(|error| error.to_string())?;
        }
        Ok(deployment.over(configured))
    }
}
