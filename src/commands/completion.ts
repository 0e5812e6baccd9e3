import type { Candidates } from '../cli-completion.ts';
import { loadConfig } from '../config/load.ts';
import { SealiftError } from '../errors.ts';
import type { Context, Outcome } from './context.ts';

/**
 * Prints the script that makes a shell complete our command lines. The script asks this program again, by
 * `sealift completion words -- WORD...`, so that it fits whatever version is installed.
 */
export async function completion(
  context: Context,
  shell: string,
  candidates: () => Candidates,
): Promise<Outcome> {
  if (shell === 'words') return printCandidates(context, candidates());
  const script = Object.hasOwn(scripts, shell) ? scripts[shell] : undefined;
  if (script === undefined)
    throw new SealiftError('usage', `there is no completion for ${shell}`, {
      hint: `there is for ${Object.keys(scripts).join(', ')}`,
    });
  context.output.text(script.trim());
}

/** One a line, with its description after a tab; `:files` and `:dirs` leave the rest to the shell. */
async function printCandidates(
  { output, environment, configPath }: Context,
  { words, paths, jobs, config }: Candidates,
): Promise<void> {
  for (const { word, description } of words)
    output.text(description === '' ? word : `${word}\t${description}`);
  if (paths !== undefined) output.text(`:${paths}`);
  if (jobs !== true) return;
  try {
    for (const { name } of loadConfig(config ?? configPath, environment).jobs) output.text(name);
  } catch {
    // Somebody who is still typing is not to be told what is wrong with the configuration.
  }
}

const scripts: Readonly<Record<string, string>> = {
  bash: `
# To use it now: eval "$(sealift completion bash)". For good: write this to /etc/bash_completion.d/sealift.
_sealift() {
  local current=\${COMP_WORDS[COMP_CWORD]} word rest
  COMPREPLY=()
  while IFS=$'\\t' read -r word rest; do
    case $word in
      :files | :dirs)
        compopt -o filenames 2>/dev/null
        if [ "$word" = :dirs ]; then rest=-d; else rest=-f; fi
        while IFS= read -r word; do COMPREPLY+=("$word"); done < <(compgen "$rest" -- "$current")
        ;;
      "$current"*) COMPREPLY+=("$word") ;;
    esac
  done < <(sealift completion words -- "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -F _sealift sealift
`,
  zsh: `
#compdef sealift
# To use it now: eval "$(sealift completion zsh)". For good: write this to a file _sealift in a folder of $fpath.
_sealift() {
  local word rest
  local -a found
  while IFS=$'\\t' read -r word rest; do
    case $word in
      :files) _files ;;
      :dirs) _files -/ ;;
      *) found+=("\${word//:/\\\\:}:$rest") ;;
    esac
  done < <(sealift completion words -- "\${(@Q)words[2,CURRENT]}" 2>/dev/null)
  (( $#found )) && _describe sealift found
}
if [ "$funcstack[1]" = _sealift ]; then _sealift "$@"; else compdef _sealift sealift; fi
`,
  fish: `
# To use it now: sealift completion fish | source. For good: write this to ~/.config/fish/completions/sealift.fish.
function __sealift_complete
    set -l words (commandline -opc) (commandline -ct)
    for line in (sealift completion words -- $words[2..] 2>/dev/null)
        switch $line
            case :files
                __fish_complete_path (commandline -ct)
            case :dirs
                __fish_complete_directories (commandline -ct)
            case '*'
                echo $line
        end
    end
end
complete -c sealift -f -a '(__sealift_complete)'
`,
};
