//! What the clients of clouds, which sign remote write and fetch its tokens, take from their surroundings. PURE.
//!
//! Input: names of variables, paths in the agent's container. Output: the rule that forbids one, where it could have a client
//! send files of the agent to a host of the template's choice, past everything that bounds receivers.

use crate::template::violation::Rule;

/// Of the AWS SDK: where tokens and keys are asked for, and what is told there. The `_FILE`s beside them are sent, or name
/// programs and hosts of their own.
const AWS: [&str; 4] =
    ["AWS_ENDPOINT_URL", "AWS_CONTAINER_", "AWS_EC2_METADATA_SERVICE_ENDPOINT", "AWS_CSM_"];

/// The same of azidentity.
const AZURE: [&str; 7] = [
    "AZURE_AUTHORITY_HOST",
    "AZURE_REGIONAL_AUTHORITY_NAME",
    "AZURE_FEDERATED_TOKEN_FILE",
    "AZURE_KUBERNETES_TOKEN_PROXY",
    "IDENTITY_ENDPOINT",
    "IMDS_ENDPOINT",
    "MSI_ENDPOINT",
];

/// Directory in which the AWS SDK looks for its configuration, at home.
const AWS_DIRECTORY: &str = ".aws";

/// Why a template may not set a variable, if it may not. A webhook that is called after ours may, so that identities of
/// workloads work.
pub(super) fn forbidden_variable(name: &str) -> Option<Rule> {
    let aws = AWS.iter().any(|start| name.starts_with(start))
        || name.starts_with("AWS_") && name.ends_with("_FILE");
    let azure = AZURE.contains(&name);
    (aws || azure).then_some(Rule::Other {
        rule: "tells a cloud's client which files of the agent to send, or to whom",
        fix: "remove it: sigv4 and azureAd have fields for what they need, and webhooks of the cloud set the identity of workloads by themselves",
    })
}

/// Why a template may not put files there, if it may not.
pub(super) fn forbidden_path(path: &str) -> Option<Rule> {
    path.split('/').any(|part| part == AWS_DIRECTORY).then_some(Rule::Other {
        rule: "is where AWS' client finds its configuration, which can name programs, files and hosts",
        fix: "put the files elsewhere; sigv4 has fields for region, role and keys",
    })
}

#[cfg(test)]
mod tests {
    use super::{forbidden_path, forbidden_variable};

    #[test]
    fn variables_that_say_which_files_are_sent_or_where_to_are_forbidden_and_no_others() {
        for name in [
            "AWS_ENDPOINT_URL",
            "AWS_ENDPOINT_URL_STS",
            "AWS_ENDPOINT_URL_SSO_OIDC",
            "AWS_CONTAINER_CREDENTIALS_FULL_URI",
            "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
            "AWS_WEB_IDENTITY_TOKEN_FILE",
            "AWS_CONFIG_FILE",
            "AWS_SHARED_CREDENTIALS_FILE",
            "AWS_EC2_METADATA_SERVICE_ENDPOINT",
            "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE",
            "AWS_CSM_HOST",
            "AZURE_AUTHORITY_HOST",
            "AZURE_REGIONAL_AUTHORITY_NAME",
            "AZURE_FEDERATED_TOKEN_FILE",
            "AZURE_KUBERNETES_TOKEN_PROXY",
            "IDENTITY_ENDPOINT",
            "IMDS_ENDPOINT",
            "MSI_ENDPOINT",
        ] {
            assert!(forbidden_variable(name).is_some(), "{name}");
        }
        for name in [
            "AWS_REGION",
            "AWS_DEFAULT_REGION",
            "AWS_ROLE_ARN",
            "AWS_ROLE_SESSION_NAME",
            "AWS_PROFILE",
            "AWS_SESSION_TOKEN",
            // An authority that is trusted more, whose file is sent to nobody.
            "AWS_CA_BUNDLE",
            "AWS_EC2_METADATA_DISABLED",
            "AWS_STS_REGIONAL_ENDPOINTS",
            "AWS_USE_FIPS_ENDPOINT",
            "AZURE_CLIENT_ID",
            "AZURE_TENANT_ID",
            "MY_AWS_CONFIG_FILE",
            "SSL_CERT_FILE",
            "TZ",
        ] {
            assert_eq!(forbidden_variable(name), None, "{name}");
        }
    }

    #[test]
    fn the_directory_of_awss_client_is_forbidden_wherever_home_is() {
        for path in ["/.aws", "/home/.aws", "/home/.aws/", "/root/.aws/sso", ".aws/config", "x/.aws/config"] {
            assert!(forbidden_path(path).is_some(), "{path}");
        }
        for path in ["/aws", "/home/x.aws", "/.aws2", "config", ""] {
            assert_eq!(forbidden_path(path), None, "{path}");
        }
    }
}
