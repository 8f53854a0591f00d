# As conda writes it: a function that evaluates what conda's program prints.
export CONDA_EXE=$HOME/sw/miniconda3/bin/conda
__conda_exe() ( "$CONDA_EXE" "$@" )
conda() {
    case $1 in
    activate | deactivate) \eval "$(__conda_exe shell.posix "$@")" ;;
    *) __conda_exe "$@" ;;
    esac
}
if [ -z "${CONDA_SHLVL+x}" ]; then
    export CONDA_SHLVL=0
    PATH="$(dirname "$CONDA_EXE")${PATH:+":$PATH"}"
    export PATH
fi
