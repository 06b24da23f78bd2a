"""Checks of the documents, called by `.ci/docs`: `links`, `commands` and `console`.

A console block is a fenced block of the language `console`. Lines that begin with `$ ` are commands, lines with `> `
continue the command above, and all others are its output. An HTML comment above a block directs the check:

    <!-- console: skip: REASON -->         the block is not run
    <!-- console: serve -->                the command keeps running until the end of the session
    <!-- console: printed -->              above a block of another language: the program of the last `serve` prints it
    <!-- console: within 30s -->           the last command is repeated until its output has the expected shape
    <!-- console: stop COMMAND -->         stops the program that a `serve` block started with a command that begins so
    <!-- console: before: COMMAND -->      runs a shell command first that the reader does in another way
    <!-- console: file NAME -->            above a block of another language: writes the block to that file

Blocks of another language are ignored unless such a comment is above them.
"""

import os, re, signal, subprocess, sys, tempfile, threading, time

PROGRAMS = os.environ.get("PROGRAMS", "target/debug")
# Each session begins in an empty folder; the pages of one session continue each other.
SESSIONS = [
    ["README.md"],
    [
        "docs/tutorial/first-service.md",
        "docs/tutorial/second-node.md",
        "docs/tutorial/tls.md",
        "docs/tutorial/reports.md",
    ],
]
DIRECTIVE = re.compile(r"<!-- console: (.*?) -->", re.S)
DEADLINE = 90


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def pages():
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "--", "*.md", ":!data-plane/tests"], capture_output=True, text=True, check=True
    ).stdout.split()
    return sorted({path for path in listed if os.path.exists(path)})


# --- links


def without_code(text):
    """The text with its code blocks and code spans blanked: links there are no links."""
    text = re.sub(r"^( *)(```|~~~).*?^\1\2 *$", lambda m: "\n" * m[0].count("\n"), text, flags=re.S | re.M)
    text = re.sub(r"<!--.*?-->", lambda m: "\n" * m[0].count("\n"), text, flags=re.S)
    return re.sub(r"(`+)(?!`).+?(?<!`)\1(?!`)", lambda m: "`" + "x" * (len(m[0]) - 2) + "`", text)


def anchors(path):
    """Anchors of a page as GitHub and mdbook make them from its headings."""
    found = {}
    text = re.sub(r"^( *)(```|~~~).*?^\1\2 *$", "", read(path), flags=re.S | re.M)
    for heading in re.findall(r"^#{1,6} +(.+?) *#* *$", text, flags=re.M):
        heading = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        anchor = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        count = found.get(anchor, 0)
        found[anchor] = count + 1
        if count:
            found[f"{anchor}-{count}"] = 1
    return set(found) | set(re.findall(r'<a (?:id|name)="([^"]+)"', text))


def links():
    problems, checked = [], 0
    for page in pages():
        lines = without_code(read(page)).split("\n")
        for number, line in enumerate(lines, 1):
            for target in re.findall(r"\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)", line):
                if re.match(r"[a-z][a-z+.-]*:", target):
                    continue
                checked += 1
                place = f"{page}:{number}"
                path, _, anchor = target.partition("#")
                goal = os.path.normpath(os.path.join(os.path.dirname(page), path)) if path else page
                if not os.path.exists(goal):
                    problems.append(f"{place}: {target}: there is no {goal}")
                elif anchor and goal.endswith(".md") and anchor not in anchors(goal):
                    problems.append(f"{place}: {target}: {goal} has no heading #{anchor}")
                elif page.startswith("docs/") and not goal.startswith("docs/"):
                    problems.append(f"{place}: {target}: leaves the book; name the file without a link")
        problems += missing_files(page)
    summary = read("docs/SUMMARY.md")
    listed = {os.path.normpath("docs/" + path) for path in re.findall(r"\]\(([^)#]+)\)", summary)}
    for page in pages():
        if page.startswith("docs/") and page != "docs/SUMMARY.md" and page not in listed:
            problems.append(f"{page}: docs/SUMMARY.md does not list it")
    return report("links", problems, f"{checked} links in {len(pages())} pages")


SOURCE = re.compile(r"`([\w.-]+(?:/[\w.-]+)+\.(?:rs|proto|toml|sql|py|yaml|yml|json|md|dict))`")


def missing_files(page):
    """Source files that a page names and that do not exist: from the root, or within a crate or its `src`."""
    # Decisions tell what was true when they were made.
    if page.startswith("docs/decisions/"):
        return []
    crates = [""] + [crate + "/" for crate in os.listdir(".") if os.path.isdir(crate)]
    folders = crates + [crate + "src/" for crate in crates[1:]]
    return [
        f"{page}:{number}: `{name}`: there is no such file"
        for number, line in enumerate(read(page).split("\n"), 1)
        for name in SOURCE.findall(line)
        if not any(os.path.exists(folder + name) for folder in folders)
    ]


# --- commands


def blocks(path):
    """The fenced blocks of a page: line, language, directives, lines."""
    found, directives, block = [], [], None
    lines = read(path).split("\n")
    number = 0
    while number < len(lines):
        line = lines[number]
        if block is not None:
            if line.strip() == "```":
                found.append(block)
                block = None
            else:
                block["lines"].append(line[block["indent"] :])
        elif line.lstrip().startswith("```"):
            block = {
                "line": number + 1,
                "indent": len(line) - len(line.lstrip()),
                "language": line.strip().strip("`").strip(),
                "directives": directives,
                "lines": [],
            }
            directives = []
        elif "<!-- console:" in line:
            while "-->" not in line:
                number += 1
                line += "\n" + lines[number]
            directives += [directive.strip() for directive in DIRECTIVE.findall(line)]
        elif line.strip():
            directives = []
        number += 1
    return found


def steps(block):
    """The commands of a console block with the output that is shown for each."""
    found = []
    for line in block["lines"]:
        if line.startswith("$ "):
            found.append([line[2:], []])
        elif line.startswith("> ") and found and not found[-1][1]:
            found[-1][0] += "\n" + line[2:]
        elif found and not found[-1][1] and found[-1][0].endswith("\\"):
            found[-1][0] += "\n" + line
        elif found:
            found[-1][1].append(line)
    return found


OURS = re.compile(r"^(?:\S*/)?(weir|control-plane|data-plane|backend-mock)(?= |$)(.*)", re.S)


def commands():
    """Every command of ours in a console block names flags and subcommands that exist."""
    problems, checked = [], 0
    for page in pages():
        for block in blocks(page):
            if block["language"] != "console":
                continue
            for command, _ in steps(block):
                command = re.sub(r"\\\n *", " ", command)
                command = re.sub(r"\s+#( .*)?$", "", command)
                command = re.sub(r"^(?:\w+=\S* )+", "", command)
                match = OURS.match(command.strip())
                if not match:
                    continue
                arguments = re.split(r"\s(?:[|&<>;]|&&|2>)|>|&$|;", match[2])[0].strip()
                if "…" in arguments or "..." in arguments:
                    continue
                if re.search(r"(^| )(--help|-h|help|--version|-V|version)( |$)", arguments):
                    continue
                checked += 1
                line = f"{PROGRAMS}/{match[1]} {arguments} --help"
                ran = subprocess.run(["bash", "-c", line], capture_output=True, text=True, stdin=subprocess.DEVNULL)
                if ran.returncode:
                    problems.append(f"{page}:{block['line']}: {match[0]}\n      {ran.stderr.strip()[:300]}")
    return report("commands", problems, f"{checked} commands")


# --- console


def shape(line):
    """A line without what differs from run to run: numbers, times, ids, widths of columns."""
    line = re.sub(r"\x1b\[[0-9;]*m", "", line)
    line = re.sub(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)?", "TIME", line)
    line = re.sub(r"\b(weir|weirjoin)_[0-9A-Za-z_]+", r"\1_TOKEN", line)
    line = re.sub(r"\b(?=[0-9a-f]*\d)[0-9a-f]{8,}\b", "ID", line)
    # The status of an answer matters, and so does a failure.
    line = re.sub(r"(?:^|(?<=status )|(?<=HTTP/1.1 ))[1-5]\d\d\b", lambda m: "".join("abcdefghij"[int(d)] for d in m[0]), line)
    line = re.sub(r"^(failed +)0$", r"\1none", line)
    line = re.sub(r"\d[\d,.]*( ?(ns|µs|ms|s|m|h|d|k|M|G|B|KB|KiB|MB|MiB|GB|GiB)\b)?", "N", line)
    line = re.sub(r"[─━-]{4,}", "----", line)
    return re.sub(r"\s+", " ", line).strip()


def fits(line, wanted):
    """Whether a line has the wanted shape; `…` in the wanted line stands for any text."""
    first, *rest = wanted.split("…")
    # Only the first part is at the beginning of its line.
    parts = [re.escape(shape(first))] + [re.escape(shape("\0" + part)[1:].strip()) for part in rest]
    return re.fullmatch(r" ?.*? ?".join(parts), shape(line)) is not None


def same_shape(output, wanted):
    """Whether the lines have the wanted shapes; a line `…` stands for any number of lines."""
    output = [line for line in output if line.strip()]
    wanted = [line for line in wanted if line.strip()]
    if not wanted:
        return not output
    if wanted[0].strip() in ("…", "..."):
        return any(same_shape(output[n:], wanted[1:]) for n in range(len(output) + 1))
    return bool(output) and fits(output[0], wanted[0]) and same_shape(output[1:], wanted[1:])


class Shell:
    """One bash that runs the commands of a session, as a reader's terminal does."""

    def __init__(self, folder):
        os.makedirs(f"{folder}/target", exist_ok=True)
        os.symlink(os.path.abspath(PROGRAMS), f"{folder}/target/release")
        environment = {k: v for k, v in os.environ.items() if not k.startswith("WEIR_")}
        environment["PATH"] = os.path.abspath(PROGRAMS) + ":" + environment["PATH"]
        environment.update(NO_COLOR="1", COLUMNS="200", HOME=folder)
        self.folder, self.environment, self.servers, self.served = folder, environment, [], []
        self.process = subprocess.Popen(
            ["bash", "--norc", "--noprofile"], cwd=folder, env=environment, text=True, bufsize=1,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        self.lines, self.changed = [], threading.Condition()
        threading.Thread(target=self.listen, daemon=True).start()
        self.process.stdin.write("shopt -s expand_aliases\n")

    def listen(self):
        for line in self.process.stdout:
            with self.changed:
                self.lines.append(line.rstrip("\n"))
                self.changed.notify()
        with self.changed:
            self.lines.append(None)
            self.changed.notify()

    def run(self, command):
        """Runs a command; what it printed, and None when it did not end in time."""
        command = ours_not_cargo(command)
        if command.rstrip().endswith("&"):
            background = command.rstrip()[:-1]
            listens = re.search(r"--listen (\S+):(\d+)", background)
            command = f"{background} >/dev/null 2>&1 & disown"
            if listens:
                command += f"; until (exec 3<>/dev/tcp/{listens[1]}/{listens[2]}) 2>/dev/null; do sleep 0.1; done"
        mark = f"end-of-command-{time.monotonic_ns()}"
        self.process.stdin.write(f"{{ {command}\n}} </dev/null\necho {mark}\n")
        self.process.stdin.flush()
        output, deadline = [], time.monotonic() + DEADLINE
        with self.changed:
            while True:
                while self.lines:
                    line = self.lines.pop(0)
                    if line is None or line == mark:
                        return output
                    if line.endswith(mark):
                        return output + [line[: -len(mark)]]
                    output.append(line)
                if not self.changed.wait(deadline - time.monotonic()):
                    return None

    def serve(self, command, wanted):
        """Starts a program that stays, and waits for the wanted lines, in their order, among what it prints."""
        log = f"{self.folder}/.serve-{len(self.servers)}"
        with open(log, "w") as out:
            self.served.append(command)
            self.servers.append(
                subprocess.Popen(
                    ["bash", "-c", f"exec {ours_not_cargo(command)}"], cwd=self.folder, env=self.environment,
                    stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
                )  # fmt: skip
            )
        return self.prints(wanted)

    def prints(self, wanted):
        """What of the wanted lines the last program does not print, and what it prints."""
        log, deadline = f"{self.folder}/.serve-{len(self.servers) - 1}", time.monotonic() + DEADLINE
        while True:
            output = read(log).split("\n")
            rest = iter(output)
            missing = [line for line in wanted if line.strip() and not any(fits(one, line) for one in rest)]
            if not missing:
                time.sleep(0.5)
                return None
            if time.monotonic() > deadline or self.servers[-1].poll() is not None:
                return missing, output
            time.sleep(0.1)

    def stop(self, beginning):
        """Stops a program as Ctrl-C does, and waits for its end."""
        for process, command in zip(self.servers, self.served):
            if command.startswith(beginning) and process.poll() is None:
                os.killpg(process.pid, signal.SIGINT)
                process.wait(DEADLINE)
                return True
        return False

    def end(self):
        for process in [self.process, *self.servers]:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait()


def ours_not_cargo(command):
    """`cargo run --release -p NAME -- ARGUMENTS` as the program that it would run: it is built already."""
    return re.sub(r"cargo run --release -p (\S+)(?: --bin \S+)? -- ", r"\1 ", command)


def console():
    problems, ran, skipped = [], 0, []
    if os.geteuid() == 0:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=False, stderr=subprocess.DEVNULL)
    for session in SESSIONS:
        with tempfile.TemporaryDirectory() as folder:
            shell = Shell(folder)
            try:
                for page in session:
                    ran += play(shell, page, problems, skipped)
            finally:
                shell.end()
    for reason in skipped:
        print(f"   console: not run: {reason}")
    return report("console", problems, f"{ran} commands ran")


def play(shell, page, problems, skipped):
    """Runs the console blocks of a page; the number of commands."""
    ran = 0
    for block in blocks(page):
        place, directives = f"{page}:{block['line']}", block["directives"]
        named = [one.split(None, 1)[1] for one in directives if one.startswith("file ")]
        if named:
            with open(os.path.join(shell.folder, named[0]), "w", encoding="utf-8") as file:
                file.write("\n".join(block["lines"]) + "\n")
            continue
        if "printed" in directives:
            failed = shell.prints(block["lines"])
            if failed:
                problems.append(f"{place}: the program does not print: {failed[0]}")
            continue
        if block["language"] != "console":
            continue
        skip = [one for one in directives if one.startswith("skip:")]
        if skip:
            skipped.append(f"{place}: {skip[0][5:].strip()}")
            continue
        for one in directives:
            if one.startswith("before:"):
                shell.run(one[7:].strip())
            elif one.startswith("stop ") and not shell.stop(one[5:].strip()):
                problems.append(f"{place}: no program runs that began with: {one[5:]}")
        within = next((float(one[7:].strip(" s")) for one in directives if one.startswith("within ")), 0)
        listed = steps(block)
        for index, (command, wanted) in enumerate(listed):
            ran += 1
            if "serve" in directives:
                failed = shell.serve(command, wanted)
                if failed:
                    problems.append(f"{place}: $ {command}\n      not printed: {failed[0]}\n      " + "\n      ".join(failed[1]))
                continue
            # Only what is read, never what changes something, is repeated.
            deadline = time.monotonic() + (within if index == len(listed) - 1 else 0)
            while True:
                output = shell.run(command)
                if output is None or same_shape(output, wanted) or time.monotonic() > deadline:
                    break
                time.sleep(0.5)
            if output is None:
                problems.append(f"{place}: $ {command}\n      did not end within {DEADLINE} s")
                return ran
            if not same_shape(output, wanted):
                show = "\n      ".join
                problems.append(f"{place}: $ {command}\n    shown:\n      {show(wanted)}\n    printed:\n      {show(output)}")
    return ran


def report(part, problems, summary):
    for problem in problems:
        print(f"   {part}: {problem}")
    print(f"   {part}: {summary}, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit({"links": links, "commands": commands, "console": console}[sys.argv[1]]())
