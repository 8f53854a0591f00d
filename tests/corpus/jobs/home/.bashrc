# What environment-modules puts into /etc/profile.d on a site's machines, and what users put here.
export MODULESHOME=$HOME/sw/modules MODULEPATH=$HOME/sw/modulefiles
. "$MODULESHOME/init/bash"
export PROJECT=lysozyme
alias ll='ls -l'
