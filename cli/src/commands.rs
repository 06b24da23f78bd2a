//! Dispatches each command to the code that runs it.

use std::process::ExitCode;

use weir_process::FormerNames;

use crate::{
    access,
    arguments::{Arguments, Command, RevisionsVerb},
    backends, certs, check,
    client::Client,
    completion, configuration,
    connection::{Connection, Explicit},
    contexts, dev, explain, hash_password, load, nodes,
    output::print_exact,
    reports, resources, status, tail,
    usage::Flags,
    version,
};

pub(crate) async fn run(
    arguments: Arguments,
    flags: Flags,
    former: &FormerNames,
) -> anyhow::Result<ExitCode> {
    let Arguments { global, command } = arguments;
    let output = global.output;
    let connect = || -> anyhow::Result<Client> { Ok(Client::new(&Connection::resolve(&global, flags)?)?) };
    match command {
        Command::Check { file } => check::check(&file, output)?,
        Command::HashPassword => hash_password::run()?,
        Command::Schema => print_exact(&weir_snapshot::schema::text()),
        Command::Completions { shell } => completion::script(shell)?,
        Command::Load(arguments) => load::run(arguments, output).await?,
        Command::Dev(_) if flags.admin => {
            anyhow::bail!(
                "weir dev starts the control plane itself: write --admin-listen ADDRESS instead of --admin"
            );
        }
        Command::Dev(arguments) => {
            dev::run(arguments, Explicit::of(&global, flags)?.token, former).await?;
        }
        Command::Login(login) => contexts::login(&global, flags, login).await?,
        Command::Logout { name } => contexts::logout(output, name)?,
        Command::Contexts(noun) => contexts::run(output, noun)?,
        Command::Version { client } => version::run(output, client, &global, flags).await?,

        Command::Status(watch) => status::run(&connect()?, output, watch).await?,
        Command::Backends(noun) => backends::run(&connect()?, output, noun).await?,
        Command::Pools(noun) => resources::pools(&connect()?, output, noun).await?,
        Command::Routes(noun) => resources::routes(&connect()?, output, noun).await?,
        Command::Certs(noun) => certs::run(&connect()?, output, noun).await?,
        Command::Nodes(noun) => nodes::run(&connect()?, output, noun).await?,
        Command::Tokens(noun) => access::tokens(&connect()?, output, noun).await?,
        Command::NodeTokens(noun) => access::node_tokens(&connect()?, output, noun).await?,
        Command::Audit(noun) => access::audit(&connect()?, output, noun).await?,
        Command::Revisions(noun) => {
            let verb = match (noun.verb, noun.revision) {
                (Some(verb), _) => verb,
                (None, Some(revision)) => RevisionsVerb::Get { revision },
                (None, None) => RevisionsVerb::List(noun.list),
            };
            configuration::revisions(&connect()?, output, verb).await?;
        }
        Command::Reports(noun) => reports::run(connect, output, noun).await?,
        Command::Report(report) => reports::show(&connect()?, output, report.into()).await?,
        Command::Tail(arguments) => tail::run(&connect()?, output, arguments).await?,
        Command::Explain(about) => explain::run(&connect()?, output, about).await?,
        Command::Apply(arguments) => configuration::apply(&connect()?, output, arguments).await?,
        Command::Diff { file } => return configuration::diff(&connect()?, output, &file).await,
        Command::Reload(changing) => configuration::reload(&connect()?, output, changing).await?,
        Command::Rollback { revision, changing } => {
            configuration::rollback(&connect()?, output, revision, changing).await?;
        }
        Command::Export => configuration::export(&connect()?, output).await?,
        Command::Strategy { pool, strategy } => {
            resources::set_strategy(&connect()?, output, &pool, &strategy).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
