// Reads lines of entries of /author-data as JSON, and answers what a publisher in JavaScript signs for each.
const lines = require("node:fs").readFileSync(0, "utf8").split("\n").filter(Boolean);
const written = lines.map((line) => {
  const entry = JSON.parse(line);
  const { slug: id, name, version, short_description: description } = entry;
  return JSON.stringify({ id, name, version, description });
});
process.stdout.write(written.join("\n") + "\n");
