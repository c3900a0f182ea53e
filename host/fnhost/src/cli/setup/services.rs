//! The manifest's services: programs that stand in for other systems beside a private database.

use crate::cli::Application;
use fnhost_embedded::ServiceOptions;
use fnhost_manifest::{Manifest, Secret, Service, VariableSources};
use std::net::SocketAddr;

/// Those that run: beside a private database alone, and where nobody says where the real one is.
pub(super) fn wanted(app: &Application, manifest: &Manifest, sources: &VariableSources) -> Vec<Service> {
    let services = manifest.application.services.iter().filter(|_| app.database.is_none());
    services.filter(|service| sources.get(&service.url_variable).is_none()).cloned().collect()
}

/// How they are run.
pub(super) fn options(
    app: &Application,
    services: &[Service],
    http: SocketAddr,
) -> anyhow::Result<Vec<ServiceOptions>> {
    services
        .iter()
        .map(|service| {
            let secret_file = match &service.secret_variable {
                Some(_) => Some(fnhost_embedded::secret_file(&app.data_dir, &secret_name(service))?),
                None => None,
            };
            Ok(ServiceOptions {
                name: service.name.clone(),
                command: std::path::absolute(&service.command)?,
                arguments: service.arguments.clone(),
                ready: service.ready.clone(),
                port: service.port,
                secret_file,
                http: http.to_string(),
                url_variable: service.url_variable.clone(),
            })
        })
        .collect()
}

/// Gives the variables of services their values: the address that is known, or else the one that they usually have.
pub(super) fn provide(
    app: &Application,
    services: &[Service],
    sources: &mut VariableSources,
    address: impl Fn(&str) -> Option<String>,
) -> anyhow::Result<()> {
    for service in services {
        let address = address(&service.name).unwrap_or_else(|| format!("127.0.0.1:{}", service.port));
        sources.host.insert(service.url_variable.clone(), Secret::new(format!("http://{address}")));
        if let Some(variable) = &service.secret_variable {
            let secret = fnhost_embedded::secret(&app.data_dir, &secret_name(service))?;
            sources.host.insert(variable.clone(), Secret::new(secret));
        }
    }
    Ok(())
}

fn secret_name(service: &Service) -> String {
    format!("service-{}", service.name)
}
