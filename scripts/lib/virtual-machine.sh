# shellcheck shell=bash
# shellcheck disable=SC2154 # checkout is that of options.sh
# Prepares what scripts/lab-kernel starts a virtual machine with: the distribution's kernel, and an initial
# file system that mounts this machine's. Scripts source this.

linux=$checkout/build/lab-linux

# Makes the directory $linux, with vmlinuz, initrd and lib/modules/VERSION, unless it exists.
prepare_linux() {
    local temporary_directory=$linux.$$ # lab-kernel's clean_up removes it
    [[ ! -d $linux ]] || return 0
    mkdir -p "$temporary_directory" 2>/dev/null || die 125 "cannot write to ${linux%/*}"
    (
        cd "$temporary_directory" || exit
        unpack_linux
        make_initrd
    )
    mv -T -- "$temporary_directory" "$linux" 2>/dev/null || [[ -d $linux ]] # another lab made it meanwhile
}

unpack_linux() {
    local packages package metapackage=linux-image-generic # Ubuntu's; its modules are in another package
    [[ $(apt-cache show "$metapackage" 2>/dev/null) ]] || metapackage='linux-image-amd64'
    mapfile -t packages < <(apt-cache depends --recurse --no-{recommends,suggests,conflicts,breaks,replaces,enhances} \
        "$metapackage" | grep -E '^linux-(image|modules)-([a-z]+-)?[0-9]' | grep -v unsigned | sort -u)
    ((${#packages[@]})) || die 125 'apt knows no kernel for this machine; first: apt-get update'
    echo "downloading ${packages[*]} into build/lab-linux" >&2
    # apt would warn that its user for downloads may not write here.
    apt-get -qq -o APT::Sandbox::User=root download busybox-static "${packages[@]}" >&2 || die 125 'apt could not download these: see above'
    for package in *.deb; do
        dpkg-deb -x "$package" unpacked
    done
    mv unpacked/boot/vmlinuz-* vmlinuz
    mkdir lib
    find unpacked -path '*/lib/modules' -prune -exec mv -t lib {} +
    find unpacked -path '*/bin/busybox' -exec mv {} . \;
    rm -rf unpacked ./*.deb
    depmod -b . "$(ls lib/modules)"
}

make_initrd() {
    local module number=10
    mkdir -p initial/{bin,modules,proc,root}
    mv busybox initial/bin/
    while read -r module; do
        zstd -qdcf "$module" >"initial/modules/$number" # whether it is compressed or not
        ((++number))
    done < <(modprobe -d . -S "$(ls lib/modules)" --show-depends --all virtio_pci 9p 9pnet_virtio |
        awk '$1 == "insmod" && !seen[$2]++ { print $2 }')
    cat >initial/init <<'TEXT'
#!/bin/busybox sh
PATH=/bin
busybox mount -t proc proc /proc
for module in /modules/*; do
    busybox insmod "$module"
done
busybox mount -t 9p -o trans=virtio,version=9p2000.L,msize=500000,cache=mmap disk /root
init=$(busybox sed 's/.*lab-init=\([^ ]*\).*/\1/' /proc/cmdline)
busybox umount /proc
exec busybox switch_root /root "$init"
TEXT
    chmod 755 initial/init
    (cd initial && find . | bin/busybox cpio -o -H newc) 2>/dev/null >initrd
    rm -rf initial
}
